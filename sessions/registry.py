"""Who runs which session.

        want, place            adopt, place, observe
   (unknown) ───────▶ unowned ──────────────────────▶ owned ──┐ beat: renewed
       ▲                 ▲                              │ ▲    │
       │                 └── deregister, new instance, lease ┘ └────┘
       └──────────────── forget, gone ─────────────────────────

A session is wanted until it is forgotten. While it is owned, exactly one worker has the lease, with a fence that is
greater than every fence given before it. All moments are the store's: no other clock decides anything here.

The keys and what holds among them stand in `sessions/lua/prelude.lua`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from sessions.placement import Load, choose, share
from sluice.store.client import Arg, Script, Store, load_script

WORKER_ID = re.compile(r"[A-Za-z0-9._:\[\]-]{1,128}")
"""What a worker may call itself. A space would end its name early in the store."""

_NAMES = ("workers", "beats", "wanted", "states", "owners", "leases", "observed", "held", "fence", "counts")
_KEYS = tuple(f"sl:{{sessions}}:{name}" for name in _NAMES)
KEY_PATTERNS = _KEYS
_ORPHANS_AT_ONCE = 1000
_PLACING_ATTEMPTS = 4
_PAGE = 1000
_CONNECTED = "connected"

T = TypeVar("T")


def _script(name: str) -> Script:
    return load_script("sessions", "prelude", name)


_REGISTER, _BEAT, _ADOPT, _DEREGISTER = _script("register"), _script("beat"), _script("adopt"), _script("deregister")
_OWNER, _CANDIDATES, _PLACE, _OBSERVE = _script("owner"), _script("candidates"), _script("place"), _script("observe")
_WANT, _FORGET, _LIST, _SUMMARY = _script("want"), _script("forget"), _script("list"), _script("summary")


class UnknownWorker(Exception):
    """This worker is not registered, has not been heard of for a lease, or is another process by now.

    It must have stopped all its sessions, and register again.
    """


@dataclass(frozen=True, slots=True)
class Worker:
    """`instance` is random per start of the process; `capacity` the most sessions it runs."""

    id: str
    instance: str
    url: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of a session it runs under `fence`."""

    fence: int
    state: str
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class ObservedSession:
    """What an existing worker was seen to say of a session."""

    state: str
    phone: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Disputed:
    """A session that an existing worker has too, while `owner` holds it."""

    session: str
    owner: str


@dataclass(frozen=True, slots=True)
class Owner:
    """`lease_left` in seconds: so long this answer may be believed, unless the worker itself says otherwise."""

    worker: str
    url: str
    fence: int
    lease_left: float


@dataclass(frozen=True, slots=True)
class Unowned:
    """Wanted, but nobody runs it now."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Never created, or forgotten."""


@dataclass(frozen=True, slots=True)
class NoCapacity:
    """`workers` live ones, and all are full."""

    workers: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """`since`: unix seconds of the last change of state or phone. The last four are None while nobody has it."""

    session: str
    about: Mapping[str, Any]
    workspace: str | None
    state: str
    phone: str | None
    since: float
    worker: str | None
    url: str | None
    fence: int | None
    lease_left: float | None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """`beat_left`: seconds until it counts as lost; 0 when it is. `existing`: a service that we do not run."""

    worker: str
    url: str
    capacity: int
    sessions: int
    existing: bool
    beat_left: float


@dataclass(frozen=True, slots=True)
class Summary:
    """How the sessions stand, in numbers."""

    total: int
    unowned: int
    connected: int
    """Those that somebody runs. Where more than 200 have no owner it errs towards fewer."""
    states: Mapping[str, int]
    """The last ones that were reported, most frequent first. What no worker of ours says is `other`."""
    workers: tuple[WorkerRow, ...]
    """By name; a lost one for an hour."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    rows: tuple[SessionRow, ...]
    """In no order. A session may be on two pages."""
    go_on: str
    """Where the next page begins; empty: this is the last."""


class Registry:
    """All of it is one object in the store; every method but `beat` and `place` is one round trip.

    `lease` in seconds. Methods raise StoreAway or StoreRefused.
    """

    def __init__(self, store: Store, lease: float) -> None:
        self.lease = lease
        self._store = store
        self._lease_ms = round(lease * 1000)

    # --- workers of ours

    async def register(self, worker: Worker) -> None:
        """Under a new instance, what the old process held is free at once."""
        await self._run(_REGISTER, worker.id, worker.instance, _record(worker, existing=False), self._lease_ms)

    async def beat(
        self, worker: str, instance: str, sessions: Mapping[str, Report], gone: Mapping[str, int]
    ) -> dict[str, int]:
        """Every session that this worker must run from now on, with its fence; all of them for one lease.

        `gone` are sessions (with their fence) that a person ended there. Orphans that are this worker's fair share are
        adopted; only then it takes a second round trip. Raises UnknownWorker.
        """
        reports = [part for session, report in sessions.items() for part in _report_args(session, report)]
        ended = [part for session, fence in gone.items() for part in (session, fence)]
        head = (worker, instance, self._lease_ms, _ORPHANS_AT_ONCE, len(sessions))
        answer = await self._run(_BEAT, *head, *reports, *ended)
        if answer is None:
            raise UnknownWorker(worker)
        held, orphans, loads, waited = answer
        mine = share(_loads(loads), _texts(orphans), worker, waited=_texts(waited))
        # It must first stop what it still runs under a fence that it has lost.
        able = [session for session in mine if session not in sessions]
        return _fences(held) | (await self._adopt(worker, instance, able) if able else {})

    async def deregister(self, worker: str, instance: str) -> bool:
        """Releases what it holds and removes it. False when this instance is not there."""
        return bool(await self._run(_DEREGISTER, worker, instance))

    # --- workers that know nothing of us

    async def observe(self, worker: Worker, sessions: Mapping[str, ObservedSession]) -> list[Disputed]:
        """What an existing worker runs, by its own account. Answers what somebody else holds; that stays theirs."""
        seen = [
            part
            for session, what in sessions.items()
            for part in (session, _state(what.state, what.phone), orjson.dumps(what.about))
        ]
        record = _record(worker, existing=True)
        answer = await self._run(_OBSERVE, worker.id, record, self._lease_ms, _CREATED, *seen)
        return [Disputed(session, owner) for session, owner in _pairs(_texts(answer))]

    # --- whoever looks for a session

    async def owner_of(self, session: str) -> Owner | Unowned | Unknown:
        answer = await self._run(_OWNER, session)
        if answer is None:
            return Unknown()
        return _owner(answer) if answer else Unowned()

    async def place(self, session: str, about: Mapping[str, Any]) -> Owner | NoCapacity:
        """Its owner; if it has none, the least loaded live worker becomes it.

        `about` is kept and shown (`workspace_id` as the workspace): put no secrets in it. This also moves a session
        whose existing worker is silent, and its login stays behind there: only place what a person asked to create.
        """
        workers = 0
        for _ in range(_PLACING_ATTEMPTS):
            owner, loads = await self._run(_CANDIDATES, session)
            if owner:
                return _owner(owner)
            candidates = _loads(loads)
            workers = len(candidates)
            chosen = choose(candidates, session)
            if chosen is None:
                break
            known = orjson.dumps(about)
            to = (chosen.worker, chosen.instance, self._lease_ms)
            taken = await self._run(_PLACE, session, known, _CREATED, *to)
            if taken:
                return _owner(taken)
        return NoCapacity(workers)

    async def want(self, sessions: Mapping[str, Mapping[str, Any]]) -> int:
        """Creates sessions without an owner, for workers to adopt: session → about, as in `place`. How many are new."""
        parts = [part for session, about in sessions.items() for part in (session, orjson.dumps(about))]
        return int(await self._run(_WANT, _CREATED, *parts))

    async def forget(self, session: str) -> bool:
        """Its worker stops it with its next beat. False when it was not wanted."""
        return bool(await self._run(_FORGET, session))

    # --- people

    async def summary(self, *, recount: bool = False) -> Summary:
        """Costs as much as there are workers; with `recount` it counts all sessions anew, whatever was kept."""
        answer = await self._run(_SUMMARY, int(recount))
        now, total, unowned, not_connected, by_state, workers = answer
        states = Counter({state.decode(): int(n) for state, n in _pairs(by_state) if int(n) > 0})
        connected = max(0, states[_CONNECTED] - (unowned - not_connected))
        return Summary(total, unowned, connected, dict(states.most_common()), _worker_rows(workers, now))

    async def sessions(self) -> list[SessionRow]:
        """Every wanted session, by name, each as of one moment; page after page, so that nobody else waits long."""
        found, go_on = dict[str, SessionRow](), ""
        while True:
            page = await self.page(go_on, _PAGE)
            found.update((row.session, row) for row in page.rows)
            go_on = page.go_on
            if not go_on:
                return [found[session] for session in sorted(found)]

    async def page(self, go_on: str, count: int) -> SessionPage:
        """About `count` sessions; `go_on` empty: the first ones."""
        now, after, rows = await self._run(_LIST, go_on or "0", count)
        return SessionPage(_session_rows(rows, now), "" if after == b"0" else after.decode())

    async def session(self, session: str) -> SessionRow | None:
        """One session; None where it is not wanted."""
        now, _, rows = await self._run(_LIST, "", 1, session)
        return next(iter(_session_rows(rows, now)), None)

    async def workers(self) -> list[WorkerRow]:
        """Every worker, by name; a lost one for an hour."""
        return list((await self.summary()).workers)

    async def _adopt(self, worker: str, instance: str, sessions: Sequence[str]) -> dict[str, int]:
        answer = await self._run(_ADOPT, worker, instance, *sessions)
        if answer is None:
            raise UnknownWorker(worker)
        return _fences(answer)

    async def _run(self, script: Script, *args: Arg) -> Any:
        return await self._store.run(script, _KEYS, args)


def _session_rows(flat: Sequence[bytes], now: int) -> tuple[SessionRow, ...]:
    """Of list.lua."""
    texts = _texts(flat)
    return tuple(_session_row(now, *texts[i : i + 6]) for i in range(0, len(texts), 6))


def _session_row(now: int, session: str, known: str, record: str, owner: str, url: str, ends: str) -> SessionRow:
    about = orjson.loads(known)
    since, _, text = record.partition(" ")
    state, phone = orjson.loads(text)
    workspace = about.get("workspace_id")
    fence, _, worker = owner.partition(" ")
    owned = bool(worker)
    return SessionRow(
        session=session,
        about=about,
        workspace=None if workspace is None else str(workspace),
        state=state,
        phone=phone,
        since=int(since) / 1000,
        worker=worker if owned else None,
        url=url if owned else None,
        fence=int(fence) if owned else None,
        lease_left=_left(ends, now) if owned else None,
    )


def _worker_rows(flat: Sequence[Any], now: int) -> tuple[WorkerRow, ...]:
    """Of summary.lua."""
    rows = []
    for i in range(0, len(flat), 4):
        worker, record, ends, load = flat[i : i + 4]
        about = orjson.loads(record)
        left = _left(ends.decode(), now)
        rows.append(WorkerRow(worker.decode(), about["url"], about["capacity"], load, about["existing"], left))
    return tuple(sorted(rows, key=lambda row: row.worker))


def _left(moment: str, now: int) -> float:
    return max(0.0, (float(moment) - now) / 1000)


def _record(worker: Worker, *, existing: bool) -> bytes:
    if not WORKER_ID.fullmatch(worker.id):
        raise ValueError(f"a worker's id is 1 to 128 of A-Z a-z 0-9 . _ : [ ] -, not {worker.id!r}")
    fields = {"instance": worker.instance, "url": worker.url, "capacity": worker.capacity, "existing": existing}
    return orjson.dumps(fields)


def _state(state: str, phone: str | None) -> bytes:
    return orjson.dumps([state, phone])


_CREATED = _state("created", None)


def _report_args(session: str, report: Report) -> tuple[Arg, ...]:
    return session, report.fence, _state(report.state, report.phone)


def _owner(answer: Sequence[Any]) -> Owner:
    worker, url, fence, left = answer
    return Owner(worker.decode(), url.decode(), fence, left / 1000)


def _loads(flat: Sequence[Any]) -> list[Load]:
    rows = [flat[i : i + 4] for i in range(0, len(flat), 4)]
    return [Load(worker.decode(), instance.decode(), load, capacity) for worker, instance, load, capacity in rows]


def _fences(flat: Sequence[Any]) -> dict[str, int]:
    return {session.decode(): fence for session, fence in _pairs(flat)}


def _pairs(flat: Sequence[T]) -> Iterator[tuple[T, T]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _texts(values: Sequence[bytes]) -> list[str]:
    return [value.decode() for value in values]
