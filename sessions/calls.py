"""What workers and the gateway say to each other at `/_sluice/workers`: one dataclass for each call and each answer.

By the fields' types, bounds and descriptions the gateway reads requests, and its OpenAPI description is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from sessions.keys import WORKER_ID
from sluice.http.decode import Bounds, Form

PREFIX = "/_sluice/workers"
MAX_BODY = 1024 * 1024

WorkerId = Annotated[str, Bounds(1, 128), Form(WORKER_ID, "1 to 128 of A-Z a-z 0-9 . _ : [ ] -")]
Instance = Annotated[str, Bounds(1, 128)]
SessionId = Annotated[str, Bounds(1, 200)]
Fence = Annotated[int, Bounds(0, 2**53 - 1)]
Fences = Annotated[Mapping[SessionId, Fence], Bounds(0, 2000)]
Share = Annotated[float, Bounds(0, 1)]


@dataclass(frozen=True, slots=True)
class Register:
    id: WorkerId
    """The worker's name; the same after a restart."""
    instance: Instance
    """Random, made once per start of the process."""
    url: Annotated[str, Bounds(1, 500)]
    """Where the gateway reaches the worker: scheme, host, port, and perhaps a path before all others."""
    capacity: Annotated[int, Bounds(0, 2000)]
    """The most sessions that it runs."""
    takes_ids: bool = False
    """It uses the `X-Sluice-Message-Id` of a send as the message's own, and sends what has one only once."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a registered worker has to keep to."""

    lease: float
    """Seconds: so long after a beat was sent its sessions are the worker's."""
    beat: float
    """Seconds between two beats."""
    creates_above: int
    """A create under a fence up to this was sent before, to a former process perhaps: the worker answers it 421."""


@dataclass(frozen=True, slots=True)
class SessionReport:
    fence: Fence
    """The one under which the worker runs it."""
    state: Annotated[str, Bounds(1, 64)]
    """starting, qr_scanning, authenticated, connected, disconnected, logged_out or failed."""
    phone: Annotated[str, Bounds(0, 64)] | None = None
    reason: Annotated[str, Bounds(0, 500)] | None = None
    """Why it is in this state, for people."""


@dataclass(frozen=True, slots=True)
class Load:
    """How full the worker's machine is, each from 0 to 1. From 0.9 on it is given no more sessions."""

    memory: Share
    cpu: Share


@dataclass(frozen=True, slots=True)
class Beat:
    instance: Instance
    sessions: Annotated[Mapping[SessionId, SessionReport], Bounds(0, 2000)]
    """All that it runs, is about to start, or has not stopped yet."""
    gone: Fences = field(default_factory=dict)
    """Sessions that a person ended here, with their fences: they are forgotten."""
    released: Fences = field(default_factory=dict)
    """Sessions that it has stopped and gives to others, with their fences."""
    draining: bool = False
    """It is about to leave, and is given no more sessions."""
    load: Load | None = None
    """Null: nobody knows, and only its capacity counts."""
    creates_above: Fence = 0
    """The greatest that it was answered before, by which it goes."""
    capacity: Annotated[int, Bounds(0, 2000)] | None = None
    """The most sessions that it runs from now on; null: as many as before."""
    dropped: Annotated[int, Bounds(0, 2**31 - 1)] = 0
    """Events of its sessions that it could not pass on, of the last hour."""


@dataclass(frozen=True, slots=True)
class Held:
    lease: float
    """Seconds, counted from the moment the worker sent this beat."""
    sessions: Mapping[str, int]
    """All that it has to run from now on, each under its fence. What is missing here it stops."""
    creates_above: int
    """A create under a fence up to this is of no place that is held for the worker: it answers it 421."""


@dataclass(frozen=True, slots=True)
class Wait:
    instance: Instance
    since: Annotated[float, Bounds(0, 3600)]
    """Seconds since the worker sent its last beat: what has changed after that is answered at once."""
    seconds: Annotated[float, Bounds(0, 60)] = 5.0
    """So long it waits for a change at most; no longer than until the next beat."""


@dataclass(frozen=True, slots=True)
class Changed:
    changed: bool
    """It was given a session or has lost one: the next beat is due now."""


@dataclass(frozen=True, slots=True)
class Leave:
    instance: Instance


@dataclass(frozen=True, slots=True)
class Left:
    left: bool
    """False: this instance was not there."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its path behind `PREFIX`, what it takes, what a 200 answers, and why else it answers what."""

    name: str
    path: str
    request: type[Any]
    answer: type[Any]
    summary: str
    conflict: str | None = None
    """What a 409 means; None: it answers none."""


_REGISTER_FIRST = "This instance is not registered, or was not heard of for a lease: stop all sessions, then register."
REGISTER = Call(
    "register",
    "",
    Register,
    Terms,
    "A worker says that it is there, and how much it can take.",
    "Another live process has this id (see `Retry-After`), or the id or the url is that of an existing worker.",
)
BEAT = Call("beat", "/{id}/beat", Beat, Held, "It says what it runs, and learns what it has to run.", _REGISTER_FIRST)
WAIT = Call("wait", "/{id}/wait", Wait, Changed, "Answers as soon as it was given a session or has lost one.")
LEAVE = Call("leave", "/{id}/leave", Leave, Left, "It goes, having stopped its sessions.")
CALLS = (REGISTER, BEAT, WAIT, LEAVE)
