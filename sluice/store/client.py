"""The store: how to connect to it, and how to run scripts on it.

Any Redis or Valkey from 7.0 on: one server, the master that sentinels name, or a cluster. A key has one owner: the
module whose scripts (`<package>/lua/*.lua`) use it. This file owns none.

Scripts go over the wire as EVALSHA; a store that has forgotten them (restart, failover, SCRIPT FLUSH) gets the missing
ones again. A call may therefore run twice, and so may one whose answer was lost on the way: every script says in its
legend what that does. Each begins with `lua/clock.lua`, which gives it the time; the key of that goes with each call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from sluice.store.protocol import deployment
from sluice.store.protocol.errors import ErrorReply, StoreAway as StoreAway, StoreRefused as StoreRefused, raised
from sluice.store.protocol.packing import Arg as Arg, Command


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: str
    sha: str


_ALLOW_OOM = "#!lua flags=allow-oom\n"
_READS = "#!lua flags=no-writes\n"
_CLOCK = files("sluice.store") / "lua" / "clock.lua"


def load_script(package: str, *names: str, drains: bool = False) -> Script:
    """The clock and `<package>/lua/<name>.lua`; of several names the texts one after the other, shared parts first.

    `drains`: the script needs little memory or gives some back, so it also runs in a store that is full.
    """
    folder = files(package) / "lua"
    texts = [_CLOCK.read_text(), *((folder / f"{name}.lua").read_text() for name in names)]
    text = (_ALLOW_OOM if drains else "") + "\n".join(texts)
    return _script(package, names[-1], text)


def load_reading_script(package: str, name: str) -> Script:
    """`<package>/lua/<name>.lua` alone, as it needs no time. It writes nothing; a store that is full runs it too."""
    return _script(package, name, _READS + (files(package) / "lua" / f"{name}.lua").read_text())


def _script(package: str, name: str, text: str) -> Script:
    return Script(f"{package}/{name}", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script. All keys it touches are in `keys`, and in one slot; there is at least one.

    The key of that slot's clock is added where it is sent, as the last one.
    """

    script: Script
    keys: Sequence[str]
    args: Sequence[Arg]


def clock_key(key: str) -> str:
    """Of the clock in the slot of this key, by its hash tag or by all of it."""
    begin = key.find("{")
    end = key.find("}", begin) if begin >= 0 else -1
    return f"sl:clock:{{{key[begin + 1 : end] if end >= 0 else key}}}"


def by_sha(script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Command:
    return ("EVALSHA", script.sha, len(keys) + 1, *keys, clock_key(keys[0]), *args)


def by_text(script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Command:
    """For a server that has forgotten the script, or may have and must not be asked twice."""
    return ("EVAL", script.text, len(keys) + 1, *keys, clock_key(keys[0]), *args)


class Store:
    """A connection to the store, shared by all who call: nobody waits for a free one, and none is in a call's way
    except by its size. `timeout` in seconds is the longest any one call waits, connecting included.

    It belongs to one event loop. Nothing is ever sent twice here: whoever calls knows better whether to wait, to answer
    503, or to decide alone. Who sends commands that block the server's
    side of the connection (XREAD with BLOCK) does so on a Store of its own; and there is no SUBSCRIBE.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        self.trips = 0
        """Round trips so far, but for those to servers that had to be asked again."""
        self._timeout = timeout
        self._routes = deployment.routes(url, timeout)
        self._redis: Redis | None = None

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """One script, one round trip. Raises StoreAway or StoreRefused."""
        self.trips += 1
        (reply,) = await self._routes.ask((by_sha(script, keys, args),))
        if type(reply) is not ErrorReply:
            return reply
        if reply.code == "NOSCRIPT":
            (reply,) = await self._routes.ask((by_text(script, keys, args),))
        if type(reply) is ErrorReply:
            raise raised(reply) from reply
        return reply

    async def run_all(self, calls: Sequence[Call], also: Sequence[Command] = ()) -> list[Any]:
        """Several scripts, and plain commands after them (`also`), in one round trip; the scripts' results in order.

        Not a transaction: if one fails, others may have run. A plain command's first argument is its key, or it is of
        those that have none. Raises StoreAway or StoreRefused.
        """
        commands_sent: list[Command] = [by_sha(call.script, call.keys, call.args) for call in calls]
        commands_sent += also
        if not commands_sent:
            return []
        self.trips += 1
        replies = await self._routes.ask(commands_sent)
        forgotten = [i for i, reply in enumerate(replies) if type(reply) is ErrorReply and reply.code == "NOSCRIPT"]
        if forgotten:
            again = [calls[i] for i in forgotten]
            whole = [by_text(call.script, call.keys, call.args) for call in again]
            for i, reply in zip(forgotten, await self._routes.ask(whole), strict=True):
                replies[i] = reply
        for reply in replies:
            if type(reply) is ErrorReply:
                raise raised(reply) from reply
        return replies

    async def commands(self, *commands: Command) -> list[Any]:
        """Plain commands in one round trip, their replies as RESP2 has them; HGETALL's as a dict.

        Raises StoreAway or StoreRefused.
        """
        replies = await self.run_all((), commands)
        for i, command in enumerate(commands):
            if command[0] == "HGETALL":
                replies[i] = dict(zip(replies[i][::2], replies[i][1::2], strict=True))
        return replies

    async def each(self, *commands: Command) -> list[list[Any]]:
        """The replies of each server that has keys, as a cluster has several. Raises StoreAway or StoreRefused."""
        answered = [await ask(commands) for ask in await self._routes.servers()]
        for reply in (reply for replies in answered for reply in replies):
            if type(reply) is ErrorReply:
                raise raised(reply) from reply
        return answered

    async def ping(self) -> None:
        """Raises StoreAway or StoreRefused unless the store answers."""
        await self.commands(("PING",))

    async def close(self) -> None:
        """Calls under way get StoreAway."""
        await self._routes.close()
        if self._redis is not None:
            await deployment.close_client(self._redis)

    @property
    def redis(self) -> Redis:
        """redis-py's client, on connections of its own: to listen to channels, and for what is rare."""
        if self._redis is None:
            self._redis = deployment.client(self.url, self._timeout)
        return self._redis
