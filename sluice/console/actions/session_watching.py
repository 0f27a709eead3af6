"""Sessions that are not well though somebody runs them: which they are, and a restart of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sessions.lifecycle.faults import Fault, fault_of, is_over, why_not_restarted
from sessions.lifecycle.policies import KINDS, Watch
from sessions.lifecycle.restarting import Done, Outcome, Restarting
from sessions.records import SessionRow
from sessions.signs import NotedFault
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind, moment
from sluice.console.actions.sessions import unknown_session
from sluice.http.decode import Bounds

PERSON = "a person"
_PAGE = 1000
_LOOKED_AT = 100_000
_NOT_YET = {
    "sending": "a send is in flight",
    "restarting": "it was restarted just now",
    "limited": "it was restarted as often as sessions.watch.restarts says",
    "unowned": "nobody runs it, or it is on its way to another worker",
    "unnamed": "its worker is not in sessions.workers",
    "no_workspace": "nobody has said of which workspace it is, by which its worker finds its login",
    "changed": "it has changed meanwhile",
}
_CURES = {
    "sending": "wait until it is over, and try again",
    "restarting": "wait a minute, and look at it (sluice sessions show)",
    "unowned": "sluice sessions list --orphaned says why",
    "unnamed": "put its worker back into sessions.workers",
    "no_workspace": "create it again with its workspace_id",
    "changed": "look at it (sluice sessions show), and try again",
}


@dataclass(frozen=True, slots=True)
class WatchSessions:
    limit: Annotated[int, Bounds(1, 1000)] = 200
    """The most that are answered."""


@dataclass(frozen=True, slots=True)
class UnhealthySession:
    session: str
    workspace: str | None
    worker: str | None
    kind: str
    """silent, flapping, starting, qr_scanning, authenticated or disconnected."""
    reason: str
    since: datetime
    noted: datetime | None
    """When it was told; null: it will be with the next look."""
    restarts: int
    """Of the time of sessions.watch.restarts."""
    restart: bool
    """It would be restarted with the next look."""
    why_not: str | None
    """Why it would not."""


@dataclass(frozen=True, slots=True)
class UnhealthySessions:
    sessions: tuple[UnhealthySession, ...]
    more: bool
    """There may be others."""


@dataclass(frozen=True, slots=True)
class RestartSession:
    session: str
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class RestartedSession:
    restarted: bool
    worker: str
    existing: bool
    """It is a service that we do not run, and is asked by its own reconnect. Else it restarts it with its next beat."""


async def watch(deployment: Deployment, request: WatchSessions) -> UnhealthySessions | Problem:
    """What is wrong now with sessions that somebody runs, and what would be restarted."""
    registry, sessions = deployment.registry, deployment.policies.sessions
    restarting, now = Restarting(registry, sessions.workers), await registry.time() / 1000
    found, go_on = list[UnhealthySession](), ""
    for _ in range(0, _LOOKED_AT, _PAGE):
        page = await registry.page(go_on, _PAGE)
        for row in page.rows:
            found += _unhealthy(row, sessions.watch, restarting, now)
        go_on = page.go_on
        if not go_on or len(found) > request.limit:
            break
    rows = sorted(found, key=lambda one: (one.kind, one.session))
    return UnhealthySessions(tuple(rows[: request.limit]), bool(go_on) or len(found) > request.limit)


async def restart(deployment: Deployment, request: RestartSession) -> RestartedSession | Problem:
    """Restart a session where it runs, with its login."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    restarting = Restarting(deployment.registry, deployment.policies.sessions.workers)
    impossible = restarting.why_impossible(row)
    if impossible is not None:
        return _refused(row, impossible)
    if request.dry_run:
        return RestartedSession(False, row.worker or "", row.existing)
    done = await restarting.restart(row, PERSON)
    if done.outcome == "restarted":
        return RestartedSession(True, done.worker, row.existing)
    return _failed(row, done) if done.outcome == "failed" else _refused(row, done.outcome)


def _unhealthy(row: SessionRow, policy: Watch, restarting: Restarting, now: float) -> Iterator[UnhealthySession]:
    fault = fault_of(row, policy, now) or _goes_on(row, policy, now)
    if fault is None:
        return
    why_not = None
    if fault.kind not in policy.restart:
        why_not = f"sessions.watch.restart does not name {fault.kind}"
    else:
        outcome = restarting.why_impossible(row) or why_not_restarted(row, fault, policy, now)
        why_not = None if outcome is None else _NOT_YET[outcome]
    lately = sum(now - one < policy.restarts.period for one in row.signs.restarts)
    yield UnhealthySession(
        session=row.session,
        workspace=row.workspace,
        worker=row.worker,
        kind=fault.kind,
        reason=fault.reason,
        since=moment(fault.since),
        noted=None if row.fault is None else moment(row.fault.noted),
        restarts=lately,
        restart=why_not is None,
        why_not=why_not,
    )


def _goes_on(row: SessionRow, policy: Watch, now: float) -> Fault | None:
    """One that was noted, and is not over: it is on its way to being well."""
    noted: NotedFault | None = row.fault
    if noted is None or is_over(row, policy, now) is not None:
        return None
    return next((Fault(kind, noted.since, noted.reason) for kind in KINDS if kind == noted.kind), None)


def _refused(row: SessionRow, outcome: Outcome) -> Problem:
    why, cure = _NOT_YET.get(outcome, outcome), _CURES.get(outcome, "see sluice sessions show")
    return Problem(ProblemKind.CONFLICT, f"{quoted(row.session)} is not restarted, as {why}: {cure}")


def _failed(row: SessionRow, done: Done) -> Problem:
    return Problem(
        ProblemKind.CONFLICT,
        f"{done.worker} was asked to restart {quoted(row.session)} and did not: {done.why}; see its log, then start "
        "that worker again",
    )
