"""Brings a backup into an empty store, and makes what lies there fit to be worked with again (docs/decisions/0028).

    mark ─▶ is nobody there? ─▶ keys and fields ─▶ fences, leases, sends ─▶ the mark goes

Only a store that is marked is ever emptied, and nothing else works on one (sluice/store/restoring.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.outbox import results
from relay.policies import OUTBOX
from relay.queue import endpoints
from relay.queue.codec import id_of
from relay.queue.layout import PARTITIONS, keys
from relay.queue.waiting import Place, Waiting
from sessions.profiles.generations import Generations
from sessions.registry import Registry
from sluice.backup.file import FIELDS, GONE, KEY, BackupError, Known, Part, known, parts
from sluice.backup.groups import ALIVE
from sluice.observe.printable import on_one_line
from sluice.store import layout, restoring
from sluice.store.client import Call, Store, StoreRefused, load_script
from sluice.store.health import health_of
from sluice.store.protocol.packing import Command
from sluice.store.scan import scan

_ENOUGH = 4 * 2**20
_AT_ONCE = 500
_SETTLED = 2.5
"""Seconds in which whoever works on the store shows it: gateways and relays say each second that they are there."""
_BEHIND = 60.0
"""Seconds by which clocks of two machines may differ."""
_STEP = 600.0
"""Seconds, ten times `_BEHIND`: a fence that was given since the backup is no later than the clock that gave it. One
that is an hour ahead would be refused as nobody's (docs/how-it-works.md)."""
_BEGIN_ANEW = load_script("relay.queue", "events", "partition", "begin_anew", drains=True)
_TOKENS = 10**9
"""More than were given since the backup."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Restored:
    keys: int
    expired: int
    """Keys whose time was over."""
    leases: int
    """Events that somebody was delivering."""
    sends: int
    """Sends that are dead letters now."""
    fence: int
    """The last one that counts as given."""


def checked(path: Path) -> Known:
    """Raises BackupError for what is no backup that this version can restore, and exactly as it was written."""
    found = known(path)
    about = f"{path} has layout {found.header.layout} (sluice {found.header.version})"
    reads = f"this version reads {layout.LAYOUT - 1} and {layout.LAYOUT}"
    if found.header.layout > layout.LAYOUT:
        raise BackupError(f"{about}, and {reads}: install that version")
    if found.header.layout < layout.LAYOUT - 1:
        raise BackupError(
            f"{about}, and {reads}: restore it with that one, and upgrade by one release at a time (docs/upgrade.md)"
        )
    return found


async def refuse_store(store: Store, found: Known) -> None:
    """Raises BackupError where nothing may be restored into it; StoreAway or StoreRefused."""
    since = await restoring.since_renewed(store)
    if since is not None and since < restoring.BROKEN_OFF_AFTER:
        raise _another()
    if since is None and (key := await _foreign(store)) is not None:
        raise BackupError(
            f"the store is not empty, it has {on_one_line(key)}: what is there would be mixed with the backup; restore "
            "into an empty store, or stop Sluice and empty this one (docs/backup.md)"
        )
    (times,) = await store.commands(("TIME",))
    behind = found.header.at / 1000 - int(times[0])
    if behind > _BEHIND:
        raise BackupError(
            f"the store's clock is {behind:.0f}s behind the time at which the backup was made: set it first (NTP), as "
            "leases and fences go by it"
        )


def _another() -> BackupError:
    seconds = restoring.BROKEN_OFF_AFTER
    return BackupError(
        f"another `sluice restore` works on this store, or was broken off less than {seconds:.0f}s ago: wait for it; "
        f"{seconds:.0f}s after one was broken off the same command begins anew"
    )


async def _foreign(store: Store) -> str | None:
    """A key of Sluice's that only a store in use has."""
    async for key in scan(store, "sl:*"):
        name = key.decode("utf-8", "replace")
        if name not in (layout.KEY, restoring.KEY) and not name.startswith("sl:clock:"):
            return name
    return None


class Restoring:
    """Of one file that was checked, into a store that was not refused. Raises BackupError, StoreAway, StoreRefused."""

    def __init__(self, store: Store, path: Path, found: Known, say: Say) -> None:
        self._store = store
        self._path = path
        self._found = found
        self._say = say
        self._keys = self._expired = 0
        self._batch: list[Command] = []
        self._size = 0
        self._now = 0

    async def run(self) -> Restored:
        try:
            await self._begin()
            renewing = asyncio.create_task(self._renew())
            try:
                for part in parts(self._path):
                    await self._take(part)
                await self._flush()
                restored = await self._begin_anew()
                await self._refuse_others()
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
        except StoreRefused as error:
            raise await self._refused(error) from None
        await restoring.end(self._store)
        return restored

    async def _begin(self) -> None:
        begun = await restoring.begin(self._store)
        if begun == "another":
            raise _another()
        if begun == "anew":
            await self._empty()
        (times,) = await self._store.commands(("TIME",))
        self._now = int(times[0]) * 1000
        self._say("looking whether anybody works on the store")
        await asyncio.sleep(_SETTLED)
        if (key := await _foreign(self._store)) is not None:
            await restoring.end(self._store)  # what has come is not ours
            raise BackupError(
                f"something works on this store, as {on_one_line(key)} has come into it: stop every gateway, relay and "
                "worker first"
            )

    async def _refuse_others(self) -> None:
        """Who could not reach the store at the beginning may have worked on it since."""
        for key in sorted(ALIVE):
            (there,) = await self._store.commands(("EXISTS", key))
            if there:
                raise BackupError(
                    f"something has worked on this store while it was restored, as {key} has come into it: stop every "
                    "gateway and relay, then run the same command again: it begins anew"
                )

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(restoring.RENEWED_EVERY)
            await restoring.renew(self._store)

    async def _empty(self) -> None:
        """Of what a restore that was broken off has left."""
        found = list[bytes]()
        async for key in scan(self._store, "sl:*"):
            if key != restoring.KEY.encode():
                found.append(key)
            if len(found) == _AT_ONCE:
                await self._store.commands(*(("UNLINK", one) for one in found))
                found.clear()
        await self._store.commands(*(("UNLINK", one) for one in found))

    # --- keys

    async def _take(self, part: Part) -> None:
        name = part.texts[0]
        if part.kind == KEY:
            expires = int(part.texts[1])
            self._keys += 1
            if 0 < expires <= self._now:
                self._expired += 1
            else:
                await self._add(("RESTORE", name, max(0, expires), part.texts[2], "REPLACE", "ABSTTL"))
        elif part.kind == FIELDS:
            await self._add(("HSET", *part.texts))
        elif part.kind == GONE:
            self._keys += 1
            for at in range(1, len(part.texts), _AT_ONCE):
                await self._add(("HDEL", name, *part.texts[at : at + _AT_ONCE]))

    async def _add(self, command: Command) -> None:
        self._batch.append(command)
        self._size += sum(len(one) for one in command if isinstance(one, bytes))
        if self._size > _ENOUGH or len(self._batch) >= _AT_ONCE:
            await self._flush()

    async def _flush(self) -> None:
        await self._store.commands(*self._batch)
        self._batch, self._size = [], 0
        self._say(f"{self._keys:,} of {sum(self._found.trailer.keys.values()):,} keys")

    async def _refused(self, error: StoreRefused) -> BackupError:
        """The store is left marked, so nobody takes it for whole."""
        said = str(error)
        again = "then run the same command again: it begins anew"
        if "OOM" in said:
            return BackupError(
                f"the store has no room for the backup, which has {self._found.bytes / 2**20:,.1f} MiB "
                f"({said.rstrip('.')}): give it more memory (maxmemory), {again}"
            )
        if "DUMP payload version" in said or "Bad data format" in said:
            here = (await health_of(self._store)).version
            return BackupError(
                f"the store is {here}, which cannot read what {self._found.header.store} has written ({said}): restore "
                f"into one of that kind, of that version or a later one, {again}"
            )
        return BackupError(f"the store refused it: {said}; put that right, {again}")

    # --- so that it can be worked with

    async def _begin_anew(self) -> Restored:
        self._say("fences, leases and sends")
        of_sessions = await Registry(self._store, lease=0.0).begin_anew(_STEP)
        fence = max(of_sessions, await Generations(self._store).begin_anew(_STEP))
        names = sorted(await endpoints.names(self._store))
        calls = [
            Call(_BEGIN_ANEW, keys(name, partition), [_TOKENS]) for name in names for partition in range(PARTITIONS)
        ]
        leases = sum(await self._store.run_all(calls)) if calls else 0
        sends = await self._bury_sends() if OUTBOX in names else 0
        return Restored(self._keys, self._expired, leases, sends, fence)

    async def _bury_sends(self) -> int:
        """Those of which nobody knows whether they went out since. What is known to have ended ends as ever."""
        waiting, buried = Waiting(self._store, OUTBOX), 0
        async for places in waiting.places(None, None, _AT_ONCE):
            unknown = await self._unknown(places)
            buried += (await waiting.remove(unknown, "restored")).taken if unknown else 0
        return buried

    async def _unknown(self, places: Sequence[Place]) -> list[Place]:
        ended = await results.ended(self._store, [id_of(place.entry_id).decode() for place in places])
        return [place for place, outcome in zip(places, ended, strict=True) if outcome is None]
