"""A cluster: each command goes to the server that owns the slot of its key.

Who owns what is learnt when it is first needed, and again after a server redirected us or did not answer. A redirected
command is sent on at once.

WAIT speaks of the writes of its connection. So it goes out right behind the scripts, on the wire of each server that
they are for, and what is confirmed in the end is what the server with the fewest replicas has confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sluice.store.protocol.address import Address
from sluice.store.protocol.errors import ErrorReply, StoreAway
from sluice.store.protocol.link import Link
from sluice.store.protocol.packing import Command, pack
from sluice.store.protocol.routes import Ask, first_answer
from sluice.store.protocol.slots import Place, owners, redirection, slot_of

_MAX_HOPS = 3
_MAX_QUERIED = 8
"""Servers that are asked at once who owns what; the first that is well decides."""


class Cluster:
    """`seeds`: servers to ask first, with the login for all. A link is kept to each server that owns slots."""

    def __init__(self, seeds: Sequence[Address], timeout: float) -> None:
        self._seeds = seeds
        self._timeout = timeout
        self._links: dict[Place, Link] = {}
        self._owners: list[Place | None] = []
        self._stale = True
        self._closed = False
        self._learning = asyncio.Lock()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """What has no key goes out when the rest is answered, to any server."""
        if commands and commands[-1][0] == "WAIT":
            return await self._confirmed(commands[:-1], commands[-1])
        replies: list[Any] = [None] * len(commands)
        await self._ask_all(commands, replies, None)
        return replies

    async def servers(self) -> list[Ask]:
        """How to ask each of those that own slots."""
        async with self._in_time():
            await self._learn()
        return [partial(self._ask_one, place) for place in dict.fromkeys(filter(None, self._owners))]

    async def _confirmed(self, commands: Sequence[Command], wait: Command) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        confirmed = await self._ask_all(commands, replies, wait)
        # What is no number is the error of a server that is a replica itself by now.
        return [*replies, min((each if isinstance(each, int) else 0 for each in confirmed), default=0)]

    async def _ask_all(self, commands: Sequence[Command], replies: list[Any], wait: Command | None) -> list[Any]:
        """Fills in the replies. Returns what each server has said to `wait`."""
        slots = [slot_of(command) for command in commands]
        keyed = [i for i, slot in enumerate(slots) if slot is not None]
        keyless = [i for i, slot in enumerate(slots) if slot is None]
        confirmed: list[Any] = []
        async with self._in_time():
            for part in (keyed, keyless):
                if part:
                    confirmed += await self._ask(part, slots, commands, replies, wait)
        return confirmed

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            self._stale = True
            raise StoreAway(f"the cluster did not answer within {self._timeout:g} s") from None
        except StoreAway:
            self._stale = True
            raise

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(link.close() for link in self._links.values()))

    async def _ask(
        self,
        part: list[int],
        slots: Sequence[int | None],
        commands: Sequence[Command],
        replies: list[Any],
        wait: Command | None,
    ) -> list[Any]:
        if self._stale:
            await self._learn()
        by_place: dict[Place, list[int]] = {}
        for i in part:
            by_place.setdefault(self._owner(slots[i]), []).append(i)
        wholes = [
            [*(commands[i] for i in chosen), *_behind([commands[i] for i in chosen], wait)]
            for chosen in by_place.values()
        ]
        answered = await asyncio.gather(
            *(self._ask_one(place, whole) for place, whole in zip(by_place, wholes, strict=True)),
            return_exceptions=True,
        )
        confirmed: list[Any] = []
        for (place, chosen), answers in zip(by_place.items(), answered, strict=True):
            if isinstance(answers, BaseException):
                raise answers
            confirmed += answers[len(chosen) :]
            for i, answer in zip(chosen, answers, strict=False):
                replies[i] = await self._followed(place, commands[i], answer, wait, confirmed)
        return confirmed

    async def _ask_one(self, place: Place, commands: Sequence[Command]) -> list[Any]:
        return await self._link(place).ask(pack(commands), len(commands))

    async def _followed(
        self, place: Place, command: Command, reply: Any, wait: Command | None, confirmed: list[Any]
    ) -> Any:
        """The reply of the server that the redirections lead to."""
        for _ in range(_MAX_HOPS):
            if isinstance(reply, ErrorReply) and reply.code in ("CLUSTERDOWN", "READONLY"):
                self._stale = True
            if (redirected := redirection(reply)) is None:
                return reply
            code, slot, (host, port) = redirected
            place = (host or place[0], port)
            asking: list[Command] = [("ASKING",)] if code == "ASK" else []
            if code == "MOVED":
                self._stale = True
                self._owners[slot] = place
            answers = await self._ask_one(place, (*asking, command, *_behind([command], wait)))
            reply = answers[len(asking)]
            confirmed += answers[len(asking) + 1 :]
        return reply

    def _owner(self, slot: int | None) -> Place:
        place = self._owners[slot] if slot is not None else next(filter(None, self._owners), None)
        if place is None:
            self._stale = True
            raise StoreAway(f"no server of the cluster owns slot {slot}")
        return place

    def _link(self, place: Place) -> Link:
        if self._closed:
            raise StoreAway("the connection to the store was closed")
        link = self._links.get(place)
        if link is None:
            address = self._seeds[0].at(*place)

            async def located() -> Address:
                return address

            link = self._links[place] = Link(located, self._timeout)
        return link

    # --- learning

    async def _learn(self) -> None:
        async with self._learning:
            if not self._stale:
                return  # somebody else has learnt it while we waited
            places = dict.fromkeys([*self._links, *((seed.host, seed.port) for seed in self._seeds)])
            self._owners = await first_answer(self._told_by(place) for place in [*places][:_MAX_QUERIED])
            self._stale = False
        for place in self._links.keys() - set(self._owners):
            self._links.pop(place).drop("it owns nothing in the cluster any more")

    async def _told_by(self, place: Place) -> list[Place | None]:
        info, slots = await self._ask_one(place, (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")))
        for reply in (info, slots):
            if isinstance(reply, ErrorReply):
                raise StoreAway(f"{place[0]}:{place[1]} is no member of a cluster: {reply}")
        if b"cluster_state:ok" not in info:
            raise StoreAway(f"{place[0]}:{place[1]} says that the cluster is down")
        return owners(slots, place[0])


def _behind(commands: Sequence[Command], wait: Command | None) -> list[Command]:
    """Replicas of a server that is only read from have nothing to confirm."""
    return [wait] if wait is not None and any(command[0] in ("EVAL", "EVALSHA") for command in commands) else []
