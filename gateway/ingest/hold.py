"""Where webhooks wait that cannot be stored right now: the store is away, or a backlog is full.

Many senders never repeat what is refused, so they are kept waiting instead, each for as long as its sender is known to
wait. Whatever comes for the same ordering key waits behind, so that nothing is overtaken. Both the number and the bytes
of what waits are bounded; the bytes are also part of the process's budget for bodies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from typing import Final

from gateway import metrics
from relay.queue.codec import Event
from relay.queue.errors import BacklogFull
from relay.queue.inbox import Accepted, Destination, Inbox
from sluice.http.bodies import BodyBudget
from sluice.http.senders import USUAL, Sender
from sluice.store.client import StoreAway, StoreRefused

NOT_NOW = (BacklogFull, StoreAway, StoreRefused)
"""Why an event is not stored although it could be at another time."""
MAX_HELD = 4096
"""Requests of one process."""
_AT_ONCE: Final = 64
_AGAIN: Final = 0.1  # seconds between two tries


class _Held:
    """An event that waits."""

    def __init__(
        self, event: Event, destinations: Sequence[Destination], why: Exception, *, waits_for_room: bool
    ) -> None:
        self.event = event
        self.destinations = destinations
        self.why = why
        self.waits_for_room = waits_for_room
        self.stored: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()


class Hold:
    """Of one process. `bodies`: of its budget at most half is held here."""

    def __init__(self, inbox: Inbox, bodies: BodyBudget) -> None:
        self._inbox = inbox
        self._bodies = bodies
        self._lines: dict[str, list[_Held]] = {}
        """By ordering key, in the order they came."""
        self._away: Exception | None = None
        """Why the store takes nothing from anybody; None: it does, or nobody waits for it."""
        self._held = 0
        self._bytes = 0
        self._at_once = 1
        self._trying: asyncio.Task[None] | None = None

    async def accept(
        self, event: Event, destinations: Sequence[Destination], sender: Sender = USUAL, since: float | None = None
    ) -> Accepted:
        """As `Inbox.accept`, but held as long as the sender may be. `since` (`time.monotonic`; None: now): when it
        began to wait. Raises one of NOT_NOW when that is over, or at once when too much is held already."""
        why = self._why_it_must_wait(event.ordering_key) if self._lines else None
        if why is None:
            try:
                return await self._inbox.accept(event, destinations, is_last_try=not sender.waits_for_room)
            except NOT_NOW as error:
                why = error
                if isinstance(error, BacklogFull) and not sender.waits_for_room:
                    raise
                self._note(error)
        held = _Held(event, destinations, why, waits_for_room=sender.waits_for_room)
        return await self._wait(held, (time.monotonic() if since is None else since) + sender.hold)

    async def _wait(self, held: _Held, until: float) -> Accepted:
        size = len(held.event.body)
        if not self.enter(size):
            return await self._last_try(held)
        self._lines.setdefault(held.event.ordering_key, []).append(held)
        if self._trying is None:
            self._trying = asyncio.create_task(self._try_again())
        try:
            async with asyncio.timeout_at(until):
                return await held.stored
        except TimeoutError:
            pass
        finally:
            self.leave(size)
            self._remove(held)
        return await self._last_try(held)

    async def _last_try(self, held: _Held) -> Accepted:
        """Only this one counts as a refusal of a backlog. It is not made while others of its line wait for room."""
        if isinstance(held.why, BacklogFull) and held.event.ordering_key not in self._lines:
            return await self._inbox.accept(held.event, held.destinations)
        raise held.why

    def _why_it_must_wait(self, ordering_key: str) -> Exception | None:
        line = self._lines.get(ordering_key)
        return self._away if line is None else line[0].why

    def _note(self, why: Exception) -> None:
        if not isinstance(why, BacklogFull):
            self._away = why

    def enter(self, size: int) -> bool:
        """Counts a request that waits with a body of this size; False: there is no room for it."""
        if self._held >= MAX_HELD or self._bytes + size > self._bodies.limit // 2:
            return False
        self._count(1, size)
        return True

    def leave(self, size: int) -> None:
        self._count(-1, -size)

    def _count(self, requests: int, size: int) -> None:
        self._held += requests
        self._bytes += size
        metrics.held(self._held)

    def _remove(self, held: _Held) -> None:
        key = held.event.ordering_key
        line = self._lines.get(key)
        if line is not None and held in line:
            line.remove(held)
            if not line:
                del self._lines[key]

    async def _try_again(self) -> None:
        """The first of each line, until nothing waits."""
        try:
            while self._lines:
                if await self._try_some():
                    self._away, self._at_once = None, min(2 * self._at_once, _AT_ONCE)
                else:
                    self._at_once = max(1, self._at_once // 2)  # one of them may be why the others are refused
                    await asyncio.sleep(_AGAIN)
        finally:
            self._away = self._trying = None

    async def _try_some(self) -> bool:
        """Whether any of them was stored. Those that were not let others go first the next time."""
        first = [line[0] for line in islice(self._lines.values(), self._at_once)]
        answers = await asyncio.gather(
            *(self._inbox.accept(held.event, held.destinations, is_last_try=False) for held in first),
            return_exceptions=True,
        )
        stored = False
        for held, answer in zip(first, answers, strict=True):
            if isinstance(answer, NOT_NOW) and (held.waits_for_room or not isinstance(answer, BacklogFull)):
                held.why = answer
                self._note(answer)
                self._let_others_go_first(held.event.ordering_key)
            elif not held.stored.done():
                stored = True
                self._remove(held)
                if isinstance(answer, BaseException):
                    held.stored.set_exception(answer)
                else:
                    held.stored.set_result(answer)
        return stored

    def _let_others_go_first(self, ordering_key: str) -> None:
        line = self._lines.pop(ordering_key, None)
        if line is not None:
            self._lines[ordering_key] = line
