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

_NAMES = ("workers", "beats", "wanted", "states", "owners", "leases", "observed", "held", "fence")
_KEYS = tuple(f"sl:{{sessions}}:{name}" for name in _NAMES)
KEY_PATTERNS = _KEYS
_ORPHANS_AT_ONCE = 1000
_PLACING_ATTEMPTS = 4

T = TypeVar("T")


def _script(name: str) -> Script:
    return load_script("sessions", "prelude", name)


_REGISTER, _BEAT, _ADOPT, _DEREGISTER = _script("register"), _script("beat"), _script("adopt"), _script("deregister")
_OWNER, _CANDIDATES, _PLACE, _OBSERVE = _script("owner"), _script("candidates"), _script("place"), _script("observe")
_WANT, _FORGET, _LIST = _script("want"), _script("forget"), _script("list")


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

    async def sessions(self) -> list[SessionRow]:
        """Every wanted session, by name."""
        everything = _Everything(await self._run(_LIST))
        return [everything.session_row(session) for session in sorted(everything.wanted)]

    async def workers(self) -> list[WorkerRow]:
        """Every worker, by name; a lost one for an hour."""
        everything = _Everything(await self._run(_LIST))
        return [everything.worker_row(worker) for worker in sorted(everything.workers)]

    async def _adopt(self, worker: str, instance: str, sessions: Sequence[str]) -> dict[str, int]:
        answer = await self._run(_ADOPT, worker, instance, *sessions)
        if answer is None:
            raise UnknownWorker(worker)
        return _fences(answer)

    async def _run(self, script: Script, *args: Arg) -> Any:
        return await self._store.run(script, _KEYS, args)


class _Everything:
    """The answer of list.lua, joined."""

    def __init__(self, answer: Sequence[Any]) -> None:
        self._now: int = answer[0]
        workers, beats, wanted, states, owners, leases, observed, held = (_texts(part) for part in answer[1:])
        self.workers: dict[str, dict[str, Any]] = {worker: orjson.loads(text) for worker, text in _pairs(workers)}
        self.wanted = dict(_pairs(wanted))
        self._beats = dict(_pairs(beats))
        self._states = dict(_pairs(states))
        self._owners = dict(_pairs(owners))
        self._leases = dict(_pairs(leases)) | dict(_pairs(observed))
        self._held = Counter(member.partition(" ")[0] for member in held)

    def session_row(self, session: str) -> SessionRow:
        about = orjson.loads(self.wanted[session])
        since, _, text = self._states[session].partition(" ")
        state, phone = orjson.loads(text)
        workspace = about.get("workspace_id")
        owner = self._owner(session)
        return SessionRow(
            session=session,
            about=about,
            workspace=None if workspace is None else str(workspace),
            state=state,
            phone=phone,
            since=int(since) / 1000,
            worker=owner.worker if owner else None,
            url=owner.url if owner else None,
            fence=owner.fence if owner else None,
            lease_left=owner.lease_left if owner else None,
        )

    def worker_row(self, worker: str) -> WorkerRow:
        record = self.workers[worker]
        left = self._left(self._beats.get(worker, "0"))
        return WorkerRow(worker, record["url"], record["capacity"], self._held[worker], record["existing"], left)

    def _owner(self, session: str) -> Owner | None:
        fence, _, worker = self._owners.get(session, "").partition(" ")
        left = self._left(self._leases.get(session, "0"))
        return Owner(worker, self.workers[worker]["url"], int(fence), left) if worker and left else None

    def _left(self, moment: str) -> float:
        return max(0.0, (float(moment) - self._now) / 1000)


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
