"""The store: how to connect to it, and how to run scripts on it.

Any Redis or Valkey from 7.0 on. A key has one owner: the module whose scripts (`<room>/lua/*.lua`) use it. This file
owns none.

Scripts go over the wire as EVALSHA; a store that has forgotten them (restart, failover, SCRIPT FLUSH) gets the missing
ones again in the same call. A call may therefore run twice, and so may one whose answer was lost on the way: every
script says in its legend what that does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

Arg = bytes | str | int | float


class StoreAway(Exception):
    """The store did not answer, or not in time. Nothing is known about what it did with the call."""


class StoreRefused(Exception):
    """The store answered with an error: out of memory, read only, disk full, a bug in a script."""


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: str
    sha: str


def load_script(package: str, *names: str) -> Script:
    """`<package>/lua/<name>.lua`; with several names their texts one after the other, shared parts first."""
    folder = files(package) / "lua"
    text = "\n".join((folder / f"{name}.lua").read_text() for name in names)
    return Script(f"{package}/{names[-1]}", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script. All keys it touches are in `keys`, and in one slot."""

    script: Script
    keys: Sequence[Arg]
    args: Sequence[Arg]


class Store:
    """A connection pool to the store. `timeout` in seconds is the longest any one call waits.

    redis-py's own retries are off: whoever calls knows better whether to wait, to answer 503, or to decide alone.
    """

    def __init__(self, url: str, timeout: float, *, connections: int = 64) -> None:
        self.url = url
        self.redis: Redis = Redis.from_url(  # type: ignore[no-untyped-call, unused-ignore]
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            max_connections=connections,
            protocol=2,
        )

    async def run(self, script: Script, keys: Sequence[Arg], args: Sequence[Arg]) -> Any:
        """One script, one round trip, at two thirds of what `run_all` costs. Raises StoreAway or StoreRefused."""
        evalsha = ("EVALSHA", script.sha, len(keys), *keys, *args)
        execute: Callable[..., Awaitable[Any]] = self.redis.execute_command
        try:
            try:
                return await execute(*evalsha)
            except NoScriptError:
                await self._teach({script})
                return await execute(*evalsha)
        except ResponseError as error:
            raise StoreRefused(str(error)) from error
        except (RedisError, OSError) as error:
            raise StoreAway(str(error) or type(error).__name__) from error

    async def run_all(self, calls: Sequence[Call], also: Sequence[Sequence[Arg]] = ()) -> list[Any]:
        """Several scripts, and plain commands after them (`also`), in one round trip; the scripts' results in order.

        Not a transaction: if one fails, others may have run. Raises StoreAway or StoreRefused.
        """
        results = await self._send(calls, also)
        forgotten = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
        if forgotten:
            await self._teach({calls[i].script for i in forgotten})
            again = await self._send([calls[i] for i in forgotten], ())
            for i, result in zip(forgotten, again, strict=True):
                results[i] = result
        for result in results:
            if isinstance(result, Exception):
                raise StoreRefused(str(result)) from result
        return results

    async def commands(self, *commands: Sequence[Arg]) -> list[Any]:
        """Plain commands in one round trip. Raises StoreAway or StoreRefused."""
        return await self.run_all((), commands)

    async def ping(self) -> None:
        """Raises StoreAway or StoreRefused unless the store answers."""
        await self.commands(("PING",))

    async def close(self) -> None:
        await self.redis.aclose()

    async def _send(self, calls: Sequence[Call], also: Sequence[Sequence[Arg]]) -> list[Any]:
        pipe = self.redis.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        for command in also:
            pipe.execute_command(*command)
        try:
            results = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise StoreAway(str(error) or type(error).__name__) from error
        if any(_loading(result) for result in results):
            raise StoreAway("the store is loading its data")
        return list(results)

    async def _teach(self, scripts: set[Script]) -> None:
        try:
            for script in scripts:
                await self.redis.script_load(script.text)
        except (RedisError, OSError) as error:
            raise StoreAway(str(error)) from error


def _loading(result: object) -> bool:
    return isinstance(result, Exception) and type(result).__name__ in ("BusyLoadingError", "ConnectionError")
