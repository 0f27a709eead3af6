"""Reads a store into a file while everything runs (docs/decisions/0028).

scan ─▶ logins' contents ─▶ what is read key by key ─▶ vault, registry, partitions, each at one moment
                                                         ─▶ contents that came meanwhile ─▶ what is known of sends
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.queue import layout as queues
from sessions.profiles import generations
from sessions.scripts import KEYS as SESSIONS
from sluice import __version__
from sluice.backup.file import BackupError, Header, Trailer, Writer
from sluice.backup.groups import FIXED, PARTITIONS, Groups, family, is_hash, tag_of
from sluice.store import layout, restoring
from sluice.store.client import Arg, Call, Script, Store, load_reading_script
from sluice.store.health import health_of
from sluice.store.scan import scan

_MOMENT = load_reading_script("sluice.backup", "moment")
ENOUGH = 4 * 2**20
"""Bytes that the store is asked for at once, unless a single value has more."""
_KEYS_AT_ONCE, _FIELDS_AT_ONCE, _CALLS_AT_ONCE = 200, 1000, 32
_TRIES = 50
_RECORDS, _PROFILES = SESSIONS[0], generations.KEYS[0]

Say = Callable[[str], None]
"""Shows a person how far it is."""


@dataclass
class Counts:
    keys: Counter[str] = field(default_factory=Counter)
    events: int = 0


class Reading:
    """Of one backup. Methods raise StoreAway, StoreRefused or BackupError."""

    def __init__(self, store: Store, out: Writer, say: Say) -> None:
        self._store = store
        self._out = out
        self._say = say
        self._counts = Counts()
        self._vault: dict[bytes, set[bytes]] = {}
        """Of each hash of a login's contents the fields that were read."""

    async def run(self, place: str) -> tuple[Header, Trailer]:
        header = await self._begin(place)
        groups = Groups(await self._names())
        await self._contents(groups.vault)
        await self._each(groups.before)
        # What a session's end is to tell is taken from the registry after it is an event; so the registry comes first.
        for tag in FIXED:
            await self._whole(groups.whole(tag))
        for tag in PARTITIONS:
            await self._partition(groups, tag)
        later = Groups(await self._names())
        await self._contents(later.vault | self._vault.keys())
        for name, fields in self._vault.items():
            self._ended(name, fields, [])
        await self._each(later.after)
        trailer = await self._trailer()
        self._out.end(trailer)
        return header, trailer

    async def _begin(self, place: str) -> Header:
        if await restoring.since_renewed(self._store) is not None:
            raise BackupError(
                "a backup is being restored into this store, or was and that was broken off: there is nothing whole to "
                "take a backup of (docs/backup.md)"
            )
        noted, *_ = await self._store.commands(("GET", layout.KEY))
        at, store = await self._now(), await health_of(self._store)
        header = Header(__version__, int(noted or layout.LAYOUT), store.version, at, place)
        self._out.header(header)
        return header

    async def _trailer(self) -> Trailer:
        sessions, logins = await self._store.commands(("HLEN", _RECORDS), ("HLEN", _PROFILES))
        counts = self._counts
        return Trailer(await self._now(), dict(sorted(counts.keys.items())), counts.events, sessions, logins)

    async def _names(self) -> set[bytes]:
        self._say("looking for what there is")
        found = {name async for name in scan(self._store, "sl:*")}
        for name in found:
            try:
                name.decode()
            except UnicodeDecodeError:
                raise BackupError(f"the store has a key that is none of Sluice's, {name!r}; delete it") from None
        return found

    async def _now(self) -> int:
        (times,) = await self._store.commands(("TIME",))
        return int(times[0]) * 1000 + int(times[1]) // 1000

    # --- key by key

    async def _each(self, names: Iterable[bytes]) -> None:
        """Those of one slot in calls that end when they have read enough; some slots in one round trip."""
        by_tag: dict[str, list[bytes]] = {}
        for name in names:
            by_tag.setdefault(tag_of(name), []).append(name)
        while by_tag:
            some = [(tag, by_tag[tag][:_KEYS_AT_ONCE]) for tag in list(by_tag)[:_CALLS_AT_ONCE]]
            enough = ENOUGH // len(some)
            calls = [_call(_MOMENT, keys, [enough, 0]) for _, keys in some]
            for (tag, keys), (read, _, dumps) in zip(some, await self._store.run_all(calls), strict=True):
                self._dumped(keys, dumps)
                by_tag[tag] = by_tag[tag][read:]
                if not by_tag[tag]:
                    del by_tag[tag]

    async def _whole(self, keys: Sequence[bytes]) -> None:
        """All of one slot, at one moment."""
        _, _, dumps = (await self._store.run_all([_call(_MOMENT, keys, [0, 0])]))[0]
        self._dumped(keys, dumps)

    def _dumped(self, keys: Sequence[bytes], dumps: Sequence[Any]) -> None:
        for name, dump in zip(keys, dumps, strict=False):
            if dump is not None:
                self._out.key(name, *dump)
                self._count(name)

    def _count(self, name: bytes) -> None:
        self._counts.keys[family(name)] += 1
        self._say(f"{self._counts.keys.total():,} keys, {self._out.bytes // 2**20:,} MiB")

    # --- a partition

    async def _partition(self, groups: Groups, tag: str) -> None:
        """Its events page by page, and then, at one moment, what came and went meanwhile and all else."""
        refs = queues.shared_key(int(tag), "refs")
        (for_several,) = await self._store.commands(("HKEYS", refs))
        known: dict[bytes, set[bytes]] = {}
        for _ in range(_TRIES):
            endpoints = await self._endpoints(tag)
            keys = groups.whole(tag, endpoints)
            hashes = [key for key in keys if is_hash(key)]
            others = [key for key in keys if not is_hash(key)]
            for name in hashes:
                await self._page(name, known.setdefault(name, set()))
            args: list[Arg] = [ENOUGH, len(hashes)]
            for name in hashes:
                args += [len(known[name]), *known[name]]
            call = _call(_MOMENT, [*hashes, *others], args)
            ((read, differences, dumps),) = await self._store.run_all([call])
            if read and set(await self._endpoints(tag)) <= set(endpoints):
                break
        else:
            raise BackupError(
                f"partition {tag} changes faster than it can be read; take the backup when less comes, or from a "
                "machine nearer to the store"
            )
        for name, (new, gone) in zip(hashes, differences, strict=True):
            if new:
                self._out.fields(name, new)
            if name.endswith(b"}:events"):
                self._counts.events += len(known[name]) + len(new) // 2 - len(gone)
                await self._again(refs, set(for_several), name, known[name] - set(gone))
            self._ended(name, known[name] or new, gone)
        self._dumped(others, dumps)

    async def _endpoints(self, tag: str) -> list[str]:
        (found,) = await self._store.commands(("SMEMBERS", queues.endpoints_key(int(tag))))
        return sorted(name.decode() for name in found)

    async def _again(self, refs: str, before: set[bytes], name: bytes, known: set[bytes]) -> None:
        """An event that has left comes back where a repeat brings it to an endpoint that had left it out, with another
        number in its record: those are read once more."""
        (now,) = await self._store.commands(("HKEYS", refs))
        changed = [event for event in now if event not in before and event in known]
        async for pairs in self._values(name, changed):
            self._out.fields(name, pairs)

    # --- hashes whose values never change under a field

    async def _contents(self, names: Iterable[bytes]) -> None:
        for name in sorted(names):
            await self._page(name, self._vault.setdefault(name, set()))

    async def _page(self, name: bytes, known: set[bytes]) -> None:
        """What is not known of it yet."""
        (fields,) = await self._store.commands(("HKEYS", name))
        new = [one for one in fields if one not in known]
        async for pairs in self._values(name, new):
            self._out.fields(name, pairs)
            known.update(pairs[::2])
            self._say(f"{self._counts.keys.total():,} keys, {self._out.bytes // 2**20:,} MiB")

    async def _values(self, name: bytes, fields: Sequence[bytes]) -> AsyncIterator[list[bytes]]:
        """Fields and values in turns, `ENOUGH` bytes at a time."""
        for at in range(0, len(fields), _FIELDS_AT_ONCE):
            some = fields[at : at + _FIELDS_AT_ONCE]
            sizes = await self._store.commands(*(("HSTRLEN", name, one) for one in some))
            for page in _pages(some, sizes):
                (values,) = await self._store.commands(("HMGET", name, *page))
                found = [(one, value) for one, value in zip(page, values, strict=True) if value is not None]
                if found:
                    yield [part for pair in found for part in pair]

    def _ended(self, name: bytes, read: Collection[bytes], gone: Sequence[bytes]) -> None:
        if read:
            self._out.gone(name, gone)
            self._count(name)


def _pages(fields: Sequence[bytes], sizes: Sequence[int]) -> Iterable[list[bytes]]:
    page, size = list[bytes](), 0
    for one, of_one in zip(fields, sizes, strict=True):
        if page and size + of_one > ENOUGH:
            yield page
            page, size = [], 0
        page.append(one)
        size += of_one
    if page:
        yield page


def _call(script: Script, keys: Sequence[bytes], args: Sequence[Arg]) -> Call:
    return Call(script, [key.decode() for key in keys], args)
