"""Who runs which session.

        reserve             confirm, or its worker reports it
   (unknown) ──▶ reserved ──────────────────────────────▶ owned ──┐ the worker beats: all of its sessions are renewed
       ▲            │ cancel: as if nothing had been       ▲  │ ▲ │
       │            ▼                                      │  │ └─┘
       │        unowned ─── grant (keeper.py), observe ────┘  │
       │            ▲                                         │
       │            └──── released, left, lapsed, moved ◀─────┤
       └──────────────── forget, gone ────────────────────────┘

A session is known until it is forgotten. One that was ended is kept, and run by nobody until it is created again or
restored. The lease belongs to the worker: a session has an owner while its record names
a worker that is live. It has then a fence that is greater than every fence given before. All moments are those of the
scripts: no other clock decides anything here. A session that nobody has is an orphan, which workers of ours may get, or
it waits for the existing worker on which its login lies.

The keys and what holds among them stand in `sessions/lua/prelude.lua`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sessions import records
from sessions.ending import Ending
from sessions.lifecycle.phones import Keep
from sessions.overview import Overview
from sessions.placement import choose
from sessions.records import (
    Changed as Changed,
    Disputed as Disputed,
    Ended as Ended,
    HistoryLine as HistoryLine,
    Lapsed as Lapsed,
    LastOwner as LastOwner,
    Moved as Moved,
    NoCapacity as NoCapacity,
    NoSuchWorker as NoSuchWorker,
    Notice as Notice,
    Observation as Observation,
    ObservedSession as ObservedSession,
    Owner as Owner,
    OwnerAway as OwnerAway,
    PhoneInUse as PhoneInUse,
    Purging as Purging,
    Ready as Ready,
    Registered as Registered,
    Report as Report,
    Reserved as Reserved,
    Rival as Rival,
    SessionPage as SessionPage,
    SessionRow as SessionRow,
    StillRuns as StillRuns,
    Summary as Summary,
    Taken as Taken,
    ToRun as ToRun,
    Unknown as Unknown,
    UnknownWorker as UnknownWorker,
    Unowned as Unowned,
    Worker as Worker,
    WorkerRow as WorkerRow,
)
from sessions.scripts import GATEWAY as GATEWAY, KEYS, load
from sessions.shifting import Shifting
from sessions.starting import Starting
from sessions.states import MOVES_FOR_SCRIPTS, state_of
from sessions.upkeep import Upkeep
from sessions.watched import Watched
from sluice.store import clock
from sluice.store.client import Arg

WORKER_ID = re.compile(r"[A-Za-z0-9._:\[\]-]{1,128}")
"""What a worker may call itself. A space would end its name early in the store."""
RESERVED_FOR = 120.0
"""Seconds for which a place is held at most."""
KEY_PATTERNS = KEYS
"""Names and scripts are beside it; see `sessions/scripts.py`."""
_PLACING_ATTEMPTS = 4


_OWNER, _RESERVE, _CONFIRM, _CANCEL = load("owner"), load("reserve", adds=True), load("confirm"), load("cancel")
_FORGET, _MOVE, _WANT, _OBSERVE = load("forget"), load("move"), load("want", adds=True), load("observe")
_HEAR, _READY = load("hear"), load("ready")
_REGISTER, _BEAT, _DEREGISTER = load("register"), load("beat"), load("deregister")


class Registry(Overview, Starting, Upkeep, Ending, Shifting, Watched):
    """All of it is one object in the store; every method is one round trip where its text says nothing else.

    Methods raise StoreAway or StoreRefused. `keep`: who stays of several sessions of a workspace with one phone.
    """

    keep: Keep = "newest"

    # --- whoever looks for a session

    async def owner_of(self, session: str) -> Owner | Unowned | Unknown:
        return records.found(await self._run(_OWNER, session))

    async def reserve(
        self, session: str, about: Mapping[str, Any], *, shared_profiles: bool = False, by: str = GATEWAY
    ) -> Owner | Reserved | NoCapacity | OwnerAway | Purging:
        """Its owner; if it has none, a place for it, held for RESERVED_FOR at most. Two round trips for a new session.

        After this, ask that worker, and `confirm` what it accepted or `cancel` what it refused. When its answer never
        came, do neither: its next list or beat tells. Two who ask at once get the same place. A session whose login
        lies on an existing worker gets a place there only; with `shared_profiles` so while that worker is live, or was
        just told what to start. `about` is kept and shown (`workspace_id` as the workspace): put no secrets in it.
        """
        head = (session, orjson.dumps(about), records.workspace_in(about))
        tail = (round(RESERVED_FOR * 1000), int(shared_profiles), by)
        answer = await self._run(_RESERVE, *head, "", "", -1, *tail)
        for attempt in range(_PLACING_ATTEMPTS):
            if answer[0] != b"choose":
                break
            _, workers, reserved, avoid, candidates = answer
            chosen = choose(records.candidates(candidates), session, avoid.decode())
            if chosen is None:
                return NoCapacity(workers, reserved)
            # Who comes a moment later sees the same numbers; so at first none may have come in between.
            most = chosen.taken + attempt if attempt < _PLACING_ATTEMPTS - 1 else -1
            answer = await self._run(_RESERVE, *head, chosen.worker, chosen.instance, most, *tail)
        match answer[0]:
            case b"owner":
                return records.owner(answer)
            case b"reserved":
                return records.reserved(answer)
            case b"away":
                return OwnerAway(answer[1].decode())
            case b"purging":
                return Purging()
        return NoCapacity(answer[1], answer[2])

    async def confirm(self, session: str, fence: int, by: str = GATEWAY) -> bool:
        """The worker accepted: the place becomes ownership. False when it is not held any more."""
        return bool(await self._run(_CONFIRM, session, fence, by))

    async def cancel(self, session: str, fence: int, by: str = GATEWAY) -> bool:
        """The worker refused: as if nothing had been. False when nothing was held, or it was accepted meanwhile."""
        return bool(await self._run(_CANCEL, session, fence, by))

    async def want(self, sessions: Mapping[str, Mapping[str, Any]], by: str = GATEWAY) -> int:
        """Creates sessions for workers of ours to run: session → about, as in `reserve`. How many are new."""
        return await self._want({session: ("", about) for session, about in sessions.items()}, by)

    async def assign(self, sessions: Mapping[str, tuple[str, Mapping[str, Any]]], by: str = GATEWAY) -> int:
        """The first division: session → the existing worker on which its login lies, and about as in `reserve`.

        Only of sessions that nobody knows yet; a known one keeps its own. How many are new.
        """
        return await self._want(sessions, by)

    async def _want(self, sessions: Mapping[str, tuple[str, Mapping[str, Any]]], by: str) -> int:
        parts = [
            part
            for session, (worker, about) in sessions.items()
            for part in (session, orjson.dumps(about), records.workspace_in(about), worker)
        ]
        return int(await self._run(_WANT, by, *parts))

    async def forget(self, session: str, *, closed: bool = True) -> bool:
        """Final, whatever is reported or listed of what was before. False when it was not known.

        `closed`: its worker has said that it closed it. Where not, a worker of ours first stops it, with its next
        beat; until then nobody gets a session of this name.
        """
        return bool(await self._run(_FORGET, session, int(not closed)))

    async def move(
        self, session: str, to: str, by: str = GATEWAY
    ) -> Moved | StillRuns | Unknown | NoSuchWorker | Ended:
        """A person sends it to that worker. One of ours that runs it stops it first; an existing one is not told to."""
        return await self._move(session, to, by)

    async def release(self, session: str, by: str = GATEWAY) -> Moved | StillRuns | Unknown | Ended:
        """A person lets any worker of ours have it; otherwise as `move`."""
        found = await self._move(session, "*", by)
        assert not isinstance(found, NoSuchWorker)
        return found

    async def _move(self, session: str, to: str, by: str) -> Moved | StillRuns | Unknown | NoSuchWorker | Ended:
        kind, *more = await self._run(_MOVE, session, to, by)
        match kind:
            case b"moved":
                worker, existing, stops_first = more
                return Moved(worker.decode(), bool(existing), stops_first == b"1")
            case b"runs":
                return StillRuns(more[0].decode())
            case b"no worker":
                return NoSuchWorker()
            case b"ended":
                return Ended("", stops_first=False)
        return Unknown()

    async def time(self) -> int:
        """Milliseconds, by which the scripts go: take it right before a list is asked for (`observe`)."""
        (answer,) = await self._store.run_all([clock.look(KEYS[0])])
        return int(answer[0])

    # --- workers of ours

    async def register(self, worker: Worker) -> Registered | Taken:
        """Under a new instance, what the old process held is free at once. Taken: another process, at another URL,
        lives under this id; or it is the name of an existing worker."""
        _check_id(worker.id)
        about = (worker.id, worker.instance, worker.url, worker.capacity)
        answer = await self._run(_REGISTER, *about, self._lease_ms, int(worker.takes_ids))
        if isinstance(answer, list):
            return Taken(answer[0].decode(), answer[1] / 1000)
        return Registered(int(answer))

    async def beat(
        self,
        worker: str,
        instance: str,
        sessions: Mapping[str, Report],
        gone: Mapping[str, int],
        released: Mapping[str, int] | None = None,
        *,
        draining: bool = False,
        load: Mapping[str, float] | None = None,
        creates_above: int = 0,
        capacity: int | None = None,
        dropped: int = 0,
    ) -> ToRun:
        """Every session that this worker must run from now on, with its fence; all of them for one lease.

        What it reported and is not answered, it must stop. A session that it has just accepted and did not report yet
        may be missing in the answer: that one is none of what it must stop. `gone`: sessions (with their fence) that a
        person ended there; `released`: that it has stopped, for others to run. While it is `draining`, or its `load`
        (`memory`, `cpu`: 0 to 1) is 0.9 or more, it gets no others. `creates_above`: what it was answered for that
        before, and goes by. `capacity`: the most that it runs from now on; None: as before. `dropped`: events that it
        could not pass on lately. Raises UnknownWorker.
        """
        reports = [part for session, report in sessions.items() for part in _report_args(session, report)]
        ended = [part for session, fence in gone.items() for part in (session, fence)]
        stopped = [part for session, fence in (released or {}).items() for part in (session, fence)]
        memory, cpu = ((load or {}).get(name, 0.0) for name in ("memory", "cpu"))
        head = (worker, instance, self._lease_ms, MOVES_FOR_SCRIPTS, int(draining))
        numbers = (memory, cpu, len(sessions), len(gone), self.keep, creates_above)
        most = -1 if capacity is None else capacity
        answer = await self._run(_BEAT, *head, *numbers, most, dropped, *reports, *ended, *stopped)
        if answer is None:
            raise UnknownWorker(worker)
        return records.to_run(answer)

    async def deregister(self, worker: str, instance: str) -> bool:
        """Releases what it holds and removes it. False when this instance is not there."""
        return bool(await self._run(_DEREGISTER, worker, instance))

    async def ready(self, session: str, phone: str | None, *, worker: str = "", fence: int = 0) -> Ready | None:
        """It says that it is connected: its existing `worker` does, or one of ours under this `fence`. To be asked
        before it is announced. None: it is not theirs, so nobody can say."""
        args = (session, worker, fence, phone or "", MOVES_FOR_SCRIPTS, self.keep)
        noted, *more = await self._run(_READY, *args)
        return Ready(more[0].decode(), int(more[1])) if noted else None

    # --- workers that know nothing of us

    async def hear(self, worker: str, session: str, state: str, phone: str | None) -> bool:
        """What an existing worker says by itself, between two lists. False when the session is not that worker's."""
        known, _ = state_of(state)
        return bool(await self._run(_HEAR, session, worker, known, phone or "", MOVES_FOR_SCRIPTS, self.keep))

    async def observe(
        self, worker: Worker, sessions: Mapping[str, ObservedSession], began: int | None = None
    ) -> Observation:
        """What an existing worker runs, by its own account, as of `began` (`time`): when the list was asked for.

        A session that was forgotten since then is not brought back. What the list lacks keeps its owner.
        """
        _check_id(worker.id)
        seen = [part for session, what in sessions.items() for part in _observed_args(session, what)]
        head = (worker.id, worker.url, worker.capacity, self._lease_ms)
        moment = began if began is not None else await self.time()
        disputed, missing = await self._run(_OBSERVE, *head, moment, MOVES_FOR_SCRIPTS, self.keep, *seen)
        return Observation(
            tuple(Disputed(session.decode(), owner.decode()) for session, owner in records.pairs(disputed)),
            tuple(session.decode() for session in missing),
        )


def _check_id(worker: str) -> None:
    if not WORKER_ID.fullmatch(worker):
        raise ValueError(f"a worker's id is 1 to 128 of A-Z a-z 0-9 . _ : [ ] -, not {worker!r}")


def _report_args(session: str, report: Report) -> Sequence[Arg]:
    state, reason = state_of(report.state)
    return session, report.fence, state, report.phone or "", _line(report.reason or reason)


def _observed_args(session: str, what: ObservedSession) -> Sequence[Arg]:
    state, reason = state_of(what.state)
    about = orjson.dumps(what.about)
    return session, state, what.phone or "", _line(reason), about, records.workspace_in(what.about)


def _line(text: str) -> str:
    """On one line of a history."""
    return re.sub(r"\s+", " ", text)[:200]
