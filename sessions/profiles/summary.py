"""How a vault stands, in numbers and with a few names: for `status` and the metrics.

It takes a look at the record of every session, so a gateway does it by itself, now and then, and whoever asks gets what
was seen last. No request waits for it.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sessions.profiles import migrated
from sessions.profiles.contents import Contents
from sessions.profiles.errors import ProfileError
from sessions.profiles.generations import KEYS, Generations, Profile
from sessions.profiles.migrated import Entry
from sessions.profiles.policies import Folder, Place, VaultPolicy
from sessions.records import SessionRow
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.process.disk import Disk, disk_of
from sluice.store import clock
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("sessions")
EVERY = 30.0
"""Seconds between two looks."""
AGES = (60.0, 300.0, 600.0, 1800.0, 3600.0, 10_800.0, 43_200.0, 86_400.0, 604_800.0, 2_592_000.0)
"""Bounds of the histogram of ages, in seconds."""
MOST = 20_000
"""Sessions that are looked at."""
NAMED = 5
"""Sessions that are told by name."""
PRUNE_AFTER = 7 * 86_400.0
"""Seconds after which a deleted login waits for a person to erase it."""
_CONNECTED = "connected"
_NOBODY = "probe"
"""Whose chunks are asked for where nobody has any."""
_TIMEOUT = 5.0
"""Seconds for which the place is waited for."""


@dataclass(frozen=True, slots=True)
class Late:
    session: str
    age: float | None
    """Seconds since its newest snapshot; None: there is none."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    session: str
    size: int
    """Bytes of its newest snapshot."""
    before: int
    """Of the older one, which stays."""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Generations that are sealed with a key which `sessions.vault.key` does not name."""

    key: str
    generations: int
    sessions: int
    lost: int
    """Sessions of which no generation can be opened."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A login that a migration has left, as its browser runs."""

    session: str
    source: str
    host: str
    age: float
    """Seconds since it was left first."""


@dataclass(frozen=True, slots=True)
class VaultSummary:
    place: str
    """`store`, or where the chunks lie."""
    away: str | None = None
    """Why nothing can be read or written there; None: it answers, or it is the store itself."""
    misplaced: str | None = None
    """A session that was saved, and of which nothing lies there: it is another place. None: there is none."""
    disk: Disk | None = None
    """Of the folder; None: it is no folder."""
    sessions: int = 0
    """Of which a login is kept."""
    generations: int = 0
    size: int = 0
    """Bytes of the newest profiles, as they are on a disk."""
    stored: int = 0
    """Bytes that were written for all generations that are kept."""
    needs: int = 0
    """Bytes that they may come to need, when each session has all of its generations: nothing says that one shares
    anything with the next."""
    ages: tuple[int, ...] = (0,) * (len(AGES) + 1)
    """How many newest snapshots are so old: one for each of AGES, and those that are older."""
    total_age: float = 0.0
    late: tuple[Late, ...] = ()
    """Some of the connected sessions that should have been saved since."""
    late_total: int = 0
    old_key: int = 0
    """Generations that an older key of `sessions.vault.key` has sealed."""
    unnamed: tuple[Unnamed, ...] = ()
    deleted: int = 0
    """Sessions whose login was deleted, and of which generations are kept still."""
    deleted_stored: int = 0
    shrunk: tuple[Shrunk, ...] = ()
    """Some of the sessions whose newest snapshots are far smaller than one before them."""
    shrunk_total: int = 0
    to_prune: int = 0
    """Those of them that were deleted over PRUNE_AFTER ago."""
    waiting: tuple[Waiting, ...] = ()
    """Some of the logins that wait to be moved from a disk."""
    waiting_total: int = 0
    complete: bool = True
    """False: there are more than MOST sessions."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a place answers."""

    away: str | None = None
    misplaced: str | None = None
    disk: Disk | None = None


class Probe:
    """Whether the place of the chunks answers, is the right one, and how full its disk is. One that hangs, as a file
    system of a network does, is waited for once, not again each time."""

    def __init__(self, place: Place, contents: Contents) -> None:
        self._place = place
        self._contents = contents
        self._asking: asyncio.Task[Probed] | None = None
        self._asked_at = 0.0

    async def ask(self, saved: str | None) -> Probed:
        """`saved`: a session of which something must lie there. Raises StoreAway and StoreRefused."""
        if self._asking is None:
            self._asking, self._asked_at = asyncio.create_task(self._ask(saved)), time.monotonic()
        done, _ = await asyncio.wait((self._asking,), timeout=_TIMEOUT)
        if not done:
            return Probed(f"it has not answered for {time.monotonic() - self._asked_at:.0f} s")
        answered, self._asking = self._asking, None
        return answered.result()

    async def _ask(self, saved: str | None) -> Probed:
        try:
            found = await self._contents.lying(saved or _NOBODY)
        except (ProfileError, OSError) as error:
            return Probed(str(error))
        folder = self._place.path if isinstance(self._place, Folder) else None
        disk = await asyncio.to_thread(disk_of, folder) if folder else None
        return Probed(None, saved if saved is not None and not found else None, disk)


class VaultWatch:
    """`seen`: the last look; None: there is no vault, or none was taken yet."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._failing = False
        self._probe: tuple[Place, Probe] | None = None
        self.seen: VaultSummary | None = None

    async def run_once(self, policy: VaultPolicy | None) -> None:
        """While the store is away, `seen` stays what it was."""
        if policy is None:
            self.seen = None
            return
        try:
            if self._probe is None or self._probe[0] != policy.place:
                self._probe = policy.place, probe_of(policy, self._store)
            self.seen = await look(policy, self._store, self._registry, self._probe[1])
            self._failing = False
        except (StoreAway, StoreRefused) as error:
            if not self._failing:
                LOG.warning("vault.not_looked_at", reason=str(error))
            self._failing = True


async def look(policy: VaultPolicy, store: Store, registry: Registry, probe: Probe) -> VaultSummary:
    """Raises StoreAway and StoreRefused."""
    profiles, complete = await _all(Generations(store))
    (answer,) = await store.run_all([clock.look(KEYS[0])])
    now = clock.seconds(answer)
    overdue = [one for one in profiles if may_be_late(one, policy, now)]
    rows = {row.session: row for row in await registry.sessions()} if overdue else {}
    late = [one for one in overdue if is_late(one, rows.get(one.session), policy, now)]
    probed = await probe.ask(_saved_first(profiles))
    summary = await asyncio.to_thread(summarized, profiles, policy, now)  # of many sessions it takes a while
    summary = replace(summary, away=probed.away, misplaced=probed.misplaced, disk=probed.disk, complete=complete)
    summary = _with_waiting(summary, profiles, await migrated.entries(store), now)
    return _with_deleted(_with_late(summary, late, now), profiles, now)


def probe_of(policy: VaultPolicy, store: Store) -> Probe:
    from sessions.profiles.opening import contents_of  # its libraries only where there is a vault

    return Probe(policy.place, contents_of(policy, store))


def key_ids(policy: VaultPolicy) -> list[str]:
    """Of the keys that are there, the one that seals first."""
    from sessions.profiles.sealing import Seals

    return [Seals([secret], "").current for secret in policy.secrets if secret]


def summarized(profiles: Sequence[Profile], policy: VaultPolicy, now: float) -> VaultSummary:
    """What the records alone tell. `now` in unix seconds, by the scripts' time."""
    keys = key_ids(policy)
    kept = [(one, newest) for one in profiles if one.deleted is None and (newest := one.newest) is not None]
    ages = [max(0.0, now - newest.made) for _, newest in kept]
    buckets = [0] * (len(AGES) + 1)
    for age in ages:
        buckets[bisect_left(AGES, age)] += 1
    generations = [generation for one, _ in kept for generation in one.generations]
    shrunk = [
        Shrunk(one.session, newest.size, good.size) for one, newest in kept if (good := one.last_good) is not None
    ]
    return VaultSummary(
        str(policy.place),
        sessions=len(kept),
        generations=len(generations),
        size=sum(newest.size for _, newest in kept),
        stored=sum(generation.stored for generation in generations),
        needs=sum(_needs(one, newest.size, policy.generations) for one, newest in kept),
        ages=tuple(buckets),
        total_age=sum(ages),
        old_key=sum(generation.key in keys[1:] for generation in generations),
        unnamed=tuple(_unnamed([one for one, _ in kept], keys)),
        shrunk=tuple(shrunk[:NAMED]),
        shrunk_total=len(shrunk),
    )


def _needs(profile: Profile, size: int, keep: int) -> int:
    """What it has shares some of its bytes with what was dropped before: with one whole profile at most."""
    stored, to_come = sum(one.stored for one in profile.generations), max(0, keep - len(profile.generations))
    return min(keep * size, stored + (to_come + 1) * size)


def _saved_first(profiles: Sequence[Profile]) -> str | None:
    """Its newest snapshot is older than those of all others: what was saved in a wrong place since does not hide it."""
    kept = [(newest.made, one.session) for one in profiles if (newest := one.newest) is not None]
    return min(kept)[1] if kept else None


def _unnamed(profiles: Sequence[Profile], keys: Collection[str]) -> Iterable[Unnamed]:
    generations, sessions, lost = Counter[str](), Counter[str](), Counter[str]()
    for profile in profiles:
        of = [generation.key for generation in profile.generations]
        unknown = Counter(key for key in of if key not in keys)
        generations += unknown
        sessions.update(unknown.keys())
        if unknown.total() == len(of):
            lost[of[0]] += 1
    return (Unnamed(key, count, sessions[key], lost[key]) for key, count in generations.most_common(NAMED))


def _with_late(summary: VaultSummary, late: Sequence[Profile], now: float) -> VaultSummary:
    found = [Late(one.session, now - one.newest.made if one.newest else None) for one in late]
    found.sort(key=lambda one: (one.age is not None, -(one.age or 0.0), one.session))
    return replace(summary, late=tuple(found[:NAMED]), late_total=len(found))


def _with_deleted(summary: VaultSummary, profiles: Iterable[Profile], now: float) -> VaultSummary:
    deleted = [(one, one.deleted) for one in profiles if one.deleted is not None and one.generations]
    stored = sum(generation.stored for one, _ in deleted for generation in one.generations)
    to_prune = sum(now - at > PRUNE_AFTER for _, at in deleted)
    return replace(summary, deleted=len(deleted), deleted_stored=stored, to_prune=to_prune)


def _with_waiting(
    summary: VaultSummary, profiles: Iterable[Profile], entries: Mapping[str, Entry], now: float
) -> VaultSummary:
    """One that has come into the vault otherwise waits no more."""
    kept = {one.session for one in profiles if one.generations}
    left = [one for one in entries.values() if one.waits and one.session not in kept]
    found = [Waiting(one.session, one.source, one.host, max(0.0, now - one.at)) for one in left]
    found.sort(key=lambda one: (-one.age, one.session))
    return replace(summary, waiting=tuple(found[:NAMED]), waiting_total=len(found))


def is_late(profile: Profile, row: SessionRow | None, policy: VaultPolicy, now: float) -> bool:
    """Whether it should have been saved since: it is connected, and nobody has for `policy.late`. `now` in seconds."""
    if row is None or row.worker is None or row.state != _CONNECTED:
        return False
    return max(_waits_since(profile), row.since) < now - policy.late  # one that has just come back is not late


def may_be_late(profile: Profile, policy: VaultPolicy, now: float) -> bool:
    """Without a look at its session."""
    return _waits_since(profile) < now - policy.late


def _waits_since(profile: Profile) -> float:
    """Unix seconds from which it should have been saved: its newest snapshot, or its last start, whose fence is a
    moment. A deleted one waits for nothing."""
    if profile.deleted is not None:
        return float("inf")
    return max(profile.fence / 1e6, profile.newest.made if profile.newest else 0.0)


async def _all(generations: Generations) -> tuple[list[Profile], bool]:
    """And whether that was all."""
    found, go_on = dict[str, Profile](), "0"
    while len(found) < MOST:
        go_on, profiles = await generations.page(go_on)
        found.update((one.session, one) for one in profiles)
        if go_on == "0":
            return list(found.values()), True
    return list(found.values()), False
