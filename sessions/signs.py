"""What is seen of a session that somebody runs, and what is wrong with it, as the store keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson


@dataclass(frozen=True, slots=True)
class Signs:
    """What was seen of a session. Moments are unix seconds; None: it never was."""

    heard: float | None = None
    """Its last event came."""
    sent: float | None = None
    """The first send after that, which should have brought one."""
    sending: float | None = None
    """A send was in flight."""
    lost: tuple[float, ...] = ()
    """Its connection was lost: the last 20 times, the newest last."""
    restarts: tuple[float, ...] = ()
    """It was restarted where it runs: the last 20 times."""
    restarting_until: float | None = None
    """So long its existing worker, which was asked to restart it, may take."""


@dataclass(frozen=True, slots=True)
class NotedFault:
    """What is wrong with a session that somebody runs (`sessions.lifecycle.faults`). Moments are unix seconds."""

    kind: str
    since: float
    noted: float
    reason: str


@dataclass(frozen=True, slots=True)
class Telling:
    """What Laravel is to be told of a fault."""

    what: Literal["unhealthy", "recovered"]
    session: str
    workspace: str
    state: str
    kind: str
    since: float
    noted: int
    """Milliseconds since 1970; with the session and `what` it says which telling it is."""
    over: float | None
    """When it was over."""
    reason: str
    line: bytes
    """As it stands in the store."""


def of(line: str) -> Signs:
    """A line of ACTIVITY_FIELDS in prelude.lua."""
    heard, sent, sending, lost, restarts, restarting = line.split("\t")
    return Signs(
        heard=_moment(heard),
        sent=_moment(sent),
        sending=_moment(sending),
        lost=_moments(lost),
        restarts=_moments(restarts),
        restarting_until=_moment(restarting),
    )


def _moment(ms: str) -> float | None:
    return int(ms) / 1000 or None


def _moments(spaced: str) -> tuple[float, ...]:
    return tuple(int(ms) / 1000 for ms in spaced.split())


def fault_of(line: str) -> NotedFault:
    """A line of FAULT_FIELDS in prelude.lua."""
    kind, since, noted, reason = line.split("\t")
    return NotedFault(kind, int(since) / 1000, int(noted) / 1000, reason)


def faults(flat: Sequence[bytes]) -> dict[str, NotedFault]:
    """Of faults.lua."""
    return {session.decode(): fault_of(line.decode()) for session, line in zip(flat[::2], flat[1::2], strict=True)}


def tellings(lines: Sequence[bytes]) -> list[Telling]:
    """Of untold.lua."""
    return [_telling(line) for line in lines]


def _telling(line: bytes) -> Telling:
    fields = orjson.loads(line)
    over = int(fields["over"])
    return Telling(
        what="recovered" if over else "unhealthy",
        session=fields["session"],
        workspace=fields["workspace"],
        state=fields["state"],
        kind=fields["kind"],
        since=int(fields["since"]) / 1000,
        noted=int(fields["noted"]),
        over=over / 1000 if over else None,
        reason=fields["reason"],
        line=line,
    )
