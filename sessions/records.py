"""What the registry is asked and what it answers, and how its scripts write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from sessions import signs
from sessions.placement import Candidate, Orphan
from sessions.signs import NotedFault, Signs

T = TypeVar("T")
_CONNECTED = "connected"
_FAULT = "fault_"
_ROW = 20
_WORKER = 13


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
    takes_ids: bool = False
    """It sends what has an id only once, and calls the message so."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of a session it runs under `fence`."""

    fence: int
    state: str
    phone: str | None = None
    reason: str | None = None


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
class Observation:
    disputed: tuple[Disputed, ...]
    """What it lists and somebody else has."""
    missing: tuple[str, ...]
    """Sessions that it has and does not list. They keep their owner."""


@dataclass(frozen=True, slots=True)
class Owner:
    """`lease_left` in seconds: so long this answer may be believed, unless a change is announced or the worker itself
    says otherwise. `existing`: a service that knows nothing of fences."""

    worker: str
    url: str
    fence: int
    lease_left: float
    existing: bool = False
    missing_since: float | None = None
    """Unix seconds; since when the existing worker, which has it, does not list it."""
    takes_ids: bool = False
    """It sends what has an id only once while it has the session under this fence, and calls the message so."""


@dataclass(frozen=True, slots=True)
class LastOwner:
    """Whom a session belonged to last. `url` is empty where nothing is known of that worker any more."""

    worker: str
    url: str
    existing: bool
    """The login lies on that machine's disk."""
    live: bool


@dataclass(frozen=True, slots=True)
class Unowned:
    """Known, but nobody runs it now."""

    last: LastOwner | None = None
    state: str = "created"
    lost_since: float | None = None
    """Unix seconds."""
    held_at: str | None = None
    """The live worker where it is just being created."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Never created, or forgotten."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A place that is held while the worker decides."""

    worker: str
    url: str
    fence: int
    existing: bool
    joined: bool = False
    """Another request holds it already, and asks the worker."""
    returns: bool = False
    """It was there last, so that worker may run it unseen or start it by itself."""


@dataclass(frozen=True, slots=True)
class NoCapacity:
    """`workers` live ones, and all are full; `reserved`: places of theirs that are only held."""

    workers: int
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class OwnerAway:
    """The worker that has the session's login, or may still run it, and does not answer."""

    worker: str


@dataclass(frozen=True, slots=True)
class Registered:
    """It has its place. `creates_above`: see `ToRun`."""

    creates_above: int


class ToRun(dict[str, int]):
    """What a worker has to run: session → fence. A create under a fence up to `creates_above` is of no place that is
    held for it any more, so it begins none: what was sent to it before may come late."""

    def __init__(self, sessions: Mapping[str, int], creates_above: int) -> None:
        super().__init__(sessions)
        self.creates_above = creates_above


@dataclass(frozen=True, slots=True)
class Taken:
    """Another process lives under this id. `lease_left` in seconds: how long at least."""

    url: str
    lease_left: float


@dataclass(frozen=True, slots=True)
class Purging:
    """It is just being forgotten, with its profile, and can be created when that is done."""


@dataclass(frozen=True, slots=True)
class PhoneInUse:
    """A phone whose sessions that are not connected are to be looked at. `key`: as the store has it."""

    key: str
    connected: str
    """A session of it that is; empty: none."""
    idle: tuple[str, ...]
    """Some of the others."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Of a session that says that it is connected."""

    yields: str
    """In whose favour it is not to be announced, or why; empty: it is."""
    order: int
    """Of those of a phone that are announced, the one with the greatest stays: unix ms, and no two have the same."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The session goes elsewhere. `worker`: whom it leaves; empty: nobody had it."""

    worker: str
    existing: bool
    """Its login stays on that machine's disk."""
    stops_first: bool
    """That worker stops it with its next beat; only then it is granted."""


@dataclass(frozen=True, slots=True)
class StillRuns:
    """A worker runs it that nobody can tell to stop, or is about to."""

    worker: str


@dataclass(frozen=True, slots=True)
class Ended:
    """It is kept, and run by nobody until it is created again or restored. `worker`: whom it leaves; empty: nobody."""

    worker: str
    stops_first: bool
    """That worker stops it with its next beat."""


@dataclass(frozen=True, slots=True)
class Changed:
    """It is not as it was when this was decided."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A session that is connected on an existing worker, while another one of its workspace has its phone."""

    session: str
    stays: str
    worker: str
    workspace: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Of a session that was ended: what Laravel is to be told."""

    session: str
    at: int
    """Milliseconds since 1970; with the session it says which notice it is."""
    workspace: str
    reason: str
    by: str = ""
    """Who ended it."""


@dataclass(frozen=True, slots=True)
class NoSuchWorker:
    pass


@dataclass(frozen=True, slots=True)
class Lapsed:
    moved: int
    """Sessions that lost their owner or their place."""
    next_end_ms: int | None
    """Milliseconds to the end of the next lease or reservation; None: there is none."""
    orphans: int
    """Those that may be granted."""


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """A change of a session: when (unix seconds), what, and by whom."""

    at: float
    what: str
    who: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """Moments are unix seconds. worker, url, fence and lease_left are None while nobody has it."""

    session: str
    about: Mapping[str, Any]
    workspace: str | None
    state: str
    phone: str | None
    since: float
    """The last change of state, phone or owner."""
    worker: str | None
    url: str | None
    fence: int | None
    lease_left: float | None
    reason: str | None = None
    """Why it failed, or how its worker calls its state."""
    existing: bool = False
    """Its owner, or its last one, is an existing worker."""
    last_owner: str | None = None
    """While nobody has it."""
    lost_since: float | None = None
    """Since when nobody has it."""
    missing_since: float | None = None
    """Since when its owner does not list it."""
    ended: str = ""
    """Why it is run by nobody until it is created again or restored: `superseded`, `deleted`, or `purging` while it
    is being forgotten; empty: it is not."""
    rival: str = ""
    """The session that has its phone, while both are connected."""
    asked_for: float | None = None
    """While nobody has it: when somebody last asked for it, by a create or Laravel's list of accounts."""
    signs: Signs = field(default_factory=Signs)
    fault: NotedFault | None = None
    """What is wrong with it though somebody runs it."""
    history: tuple[HistoryLine, ...] = ()
    """The last 20 changes, the newest last; only of a session that is asked for by name."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """`beat_left`: seconds until it counts as lost; 0 when it is. `existing`: a service that we do not run."""

    worker: str
    url: str
    capacity: int
    sessions: int
    """Those that it owns."""
    existing: bool
    beat_left: float
    reserved: int = 0
    """Places that are held for creates."""
    waiting: int = 0
    """Sessions that nobody has, and whose login lies there."""
    draining: bool = False
    memory: float = 0.0
    cpu: float = 0.0
    """By its own account, 0 to 1."""
    drains: float | None = None
    """Seconds for which it is to drain (`Registry.drain`); None: it is not."""
    dropped: int = 0
    """Events of its sessions that it could not pass on within the last hour."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How the sessions stand, in numbers."""

    total: int
    unowned: int
    connected: int
    """Those that somebody runs."""
    states: Mapping[str, int]
    """The last ones that were reported, most frequent first."""
    workers: tuple[WorkerRow, ...]
    """By name; a lost one for an hour, an existing one for a week."""
    impossible: int = 0
    """Reports of states that cannot follow the last one."""
    ended: int = 0
    """Sessions beside them that are kept and run by nobody."""
    rivals: int = 0
    """Of those that are connected on existing workers: whose phone another one of their workspace has."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """Sessions that are not well though somebody runs them, by kind of fault."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    rows: tuple[SessionRow, ...]
    """In no order. A session may be on two pages."""
    go_on: str
    """Where the next page begins; empty: this is the last."""


def workspace_in(about: Mapping[str, Any]) -> str:
    """Empty: it names none."""
    workspace = about.get("workspace_id")
    return "" if workspace is None else str(workspace)


def found(answer: Any) -> Owner | Unowned | Unknown:
    """Of owner.lua."""
    if answer is None:
        return Unknown()
    return owner(answer) if answer[0] == b"owner" else unowned(answer)


def owner(answer: Sequence[Any]) -> Owner:
    """Of owner_in in prelude.lua."""
    _, worker, url, fence, left, existing, missing, takes_ids = answer
    whose = worker.decode(), url.decode(), int(fence)
    return Owner(*whose, left / 1000, bool(existing), moment(missing), bool(takes_ids))


def unowned(answer: Sequence[Any]) -> Unowned:
    """Of owner.lua."""
    _, last, url, existing, left, state, since, held_at = answer
    whom = LastOwner(last.decode(), url.decode(), bool(existing), left > 0) if last else None
    return Unowned(whom, state.decode(), moment(since), held_at.decode() or None)


def reserved(answer: Sequence[Any]) -> Reserved:
    """Of reserve.lua."""
    _, worker, url, fence, existing, joined, returns = answer
    return Reserved(worker.decode(), url.decode(), int(fence), bool(existing), bool(joined), bool(returns))


def candidates(flat: Sequence[Any]) -> list[Candidate]:
    """Of reserve.lua."""
    rows = [flat[i : i + 5] for i in range(0, len(flat), 5)]
    return [Candidate(worker.decode(), instance.decode(), *numbers) for worker, instance, *numbers in rows]


def orphans(answer: Sequence[Any]) -> tuple[list[Orphan], list[Candidate], dict[tuple[str, str], int]]:
    """Of orphans.lua."""
    found, fleet, alike = answer
    texts = [text.decode() for text in found]
    return (
        [Orphan(*texts[i : i + 3]) for i in range(0, len(texts), 3)],
        [
            Candidate(worker.decode(), instance.decode(), taken, capacity)
            for worker, instance, taken, capacity in (fleet[i : i + 4] for i in range(0, len(fleet), 4))
        ],
        {(alike[i].decode(), alike[i + 1].decode()): alike[i + 2] for i in range(0, len(alike), 3)},
    )


def to_run(answer: Sequence[bytes]) -> ToRun:
    above, *flat = answer
    return ToRun({session.decode(): int(fence) for session, fence in pairs(flat)}, int(above))


def pairs(flat: Sequence[T]) -> Iterator[tuple[T, T]]:
    return zip(flat[::2], flat[1::2], strict=True)


def moment(ms: bytes) -> float | None:
    """Unix seconds; None for 0."""
    return int(ms) / 1000 or None


def rivals(flat: Sequence[bytes]) -> list[Rival]:
    """Of rivals.lua."""
    rows = [[cell.decode() for cell in flat[i : i + 4]] for i in range(0, len(flat), 4)]
    return [Rival(session, stays, worker, workspace) for session, stays, worker, workspace in rows]


def notices(flat: Sequence[bytes]) -> list[Notice]:
    """Of notices.lua."""
    rows = [[cell.decode() for cell in flat[i : i + 5]] for i in range(0, len(flat), 5)]
    return [Notice(session, int(at), workspace, reason, who) for session, at, workspace, reason, who in rows]


def phones(answer: Sequence[Sequence[Any]]) -> list[PhoneInUse]:
    """Of idle_phones.lua."""
    return [
        PhoneInUse(key.decode(), connected.decode(), tuple(session.decode() for session in idle))
        for key, connected, idle in answer
    ]


def session_rows(flat: Sequence[Any], history: bytes) -> tuple[SessionRow, ...]:
    """Of list.lua."""
    return tuple(_session_row(flat[i : i + _ROW], history) for i in range(0, len(flat), _ROW))


def _session_row(cells: Sequence[Any], history: bytes) -> SessionRow:
    session, about, workspace, state, phone, reason, since, worker, url, existing, fence, left, *more = cells
    last, lost, missing, ended, rival, asked_for, activity, fault = more
    return SessionRow(
        session=session.decode(),
        about=orjson.loads(about),
        workspace=workspace.decode() or None,
        state=state.decode(),
        phone=phone.decode() or None,
        since=int(since) / 1000,
        worker=worker.decode() or None,
        url=url.decode() or None,
        fence=int(fence) if worker else None,
        lease_left=left / 1000 if worker else None,
        reason=reason.decode() or None,
        existing=bool(existing),
        last_owner=None if worker else last.decode() or None,
        lost_since=None if worker else moment(lost),
        missing_since=moment(missing),
        ended=ended.decode(),
        rival=rival.decode(),
        asked_for=None if worker else moment(asked_for),
        signs=signs.of(activity.decode()) if activity else Signs(),
        fault=signs.fault_of(fault.decode()) if fault else None,
        history=tuple(_history_line(line) for line in history.decode().splitlines()),
    )


def _history_line(line: str) -> HistoryLine:
    at, what, who = line.split("\t")
    return HistoryLine(int(at) / 1000, what, who)


def summary(counts: Sequence[bytes], workers: Sequence[WorkerRow]) -> Summary:
    """Of summary.lua."""
    by_field = {field.decode(): int(count) for field, count in pairs(counts)}
    states, owned, ended = Counter[str](), Counter[str](), 0
    for name, count in by_field.items():
        kind, _, state = name.partition(" ")
        if kind == "e":
            ended += count
        elif state:
            states[state] += count
            owned[state] += count if kind == "o" else 0
    return Summary(
        total=states.total(),
        unowned=states.total() - owned.total(),
        connected=owned[_CONNECTED],
        states=dict(states.most_common()),
        workers=tuple(workers),
        impossible=by_field.get("impossible", 0),
        ended=ended,
        rivals=by_field.get("rivals", 0),
        faults={name.removeprefix(_FAULT): count for name, count in by_field.items() if name.startswith(_FAULT)},
    )


def worker_rows(flat: Sequence[Any], now: int) -> list[WorkerRow]:
    """Of summary.lua."""
    return [_worker_row(flat[i : i + _WORKER], now) for i in range(0, len(flat), _WORKER)]


def _worker_row(cells: Sequence[Any], now: int) -> WorkerRow:
    worker, url, capacity, existing, draining, memory, cpu, ends, owned, held, waiting, drains, dropped = cells
    left = max(0.0, (float(ends) - now) / 1000)
    of_itself = bool(draining), float(memory), float(cpu)
    owned, held, waiting = (int(number) for number in (owned, held, waiting))
    drains_for = drains / 1000 if drains >= 0 else None
    return WorkerRow(
        worker.decode(),
        url.decode(),
        capacity,
        owned,
        bool(existing),
        left,
        held,
        waiting,
        *of_itself,
        drains_for,
        dropped,
    )
