"""What came of an attempt. No I/O. What it means is in `retry.py` for the delivery, in `admit.lua` for the endpoint.

2xx                                          Delivered  the status line decides, whatever becomes of the body
429; 503 with Retry-After                    Paused     the endpoint takes nothing now
a name that resolves to a private address    Paused     the same; nothing was sent
401 403 404 405 410 419 421 426 451 511      Refused    the endpoint's fault, or this event's: others tell
408 409 423 425 3xx other 5xx; no answer     Failed     may pass by itself
any other status                             Rejected   the event's fault, or the endpoint's: others tell
of a batch, after one of its events failed   NotSent
a newer event was accepted that supersedes it   Superseded; nothing was sent

The answer to a batch is the outcome of each of its events. `207`, or `200` with as many statuses as there are events,
in their order, has an outcome for each event: a JSON array of numbers, or of objects with a `status`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import orjson

_REFUSED = {
    401: "check that both sides have the same secret",
    403: "the receiver refuses us; check its middleware",
    404: "the receiver has no such route, or not what the event is about; check the endpoint's url",
    405: "the receiver takes no POST there; check the endpoint's url",
    410: "the receiver says it is gone; check the endpoint's url",
    419: "Laravel wants a CSRF token; exempt the route from it",
    421: "the receiver does not serve this host; check the endpoint's url",
    426: "the receiver wants another protocol; check the endpoint's url",
    451: "the receiver may not take it for legal reasons",
    511: "the network between wants a login; check the way to the receiver",
}
_FAILED = {408, 409, 423, 425}
MAX_SHOWN = 2048
"""Bytes of the receiver's answer that are kept with a dead letter."""
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_MAX_SECONDS = 1e9
_MULTI_STATUS, _OK = 207, 200


@dataclass(frozen=True, slots=True)
class Delivered:
    """`handled`: what the receiver's answer says that it did with the event, `inline` or `queued`; empty: nothing."""

    status: int
    handled: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str
    retry_after: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """`min_pause`: seconds the endpoint asked for, 0 when it did not. `status` None: nothing was sent."""

    reason: str
    min_pause: float
    status: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """As an endpoint answers that is set up wrongly, and one that has not what this one event is about."""

    reason: str
    retry_after: float | None
    status: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """`status` None: it was never sent, and never can be.

    `is_proven`: the same receiver took others of its batch, so it is the event's fault.
    """

    reason: str
    status: int | None
    is_proven: bool = False


@dataclass(frozen=True, slots=True)
class NotSent:
    reason: str
    status: int | None = None
    wait: float = 0.0
    """Seconds after which it makes sense to try again."""


@dataclass(frozen=True, slots=True)
class Superseded:
    by: str
    """The id of the newest event."""
    status: int | None = None

    @property
    def reason(self) -> str:
        return f"superseded by {self.by}"


Outcome = Delivered | Failed | Paused | Refused | Rejected | NotSent | Superseded


_DELIVERED = {status: Delivered(status) for status in range(200, 300)}
_INLINE, _QUEUED = Delivered(200, "inline"), Delivered(200, "queued")
_SAYS = 256
"""Bytes in which an answer says how the event was handled, as Laravel's does: `{"status":"processed_inline"}`."""


def outcome_of(status: int, headers: Iterable[tuple[bytes, bytes]], answer: bytes, now: float | None = None) -> Outcome:
    """`answer`: the beginning of the body, for people to read. `now`: unix seconds."""
    if 200 <= status < 300:
        return _delivered(status, answer)
    retry_after = parse_retry_after(headers, time.time() if now is None else now)
    if status == 429 or (status == 503 and retry_after is not None):
        return Paused(f"answered {status}", retry_after or 0.0, status)
    if status in _REFUSED:
        return Refused(f"answered {status}: {_REFUSED[status]}", retry_after, status)
    if status in _FAILED or status < 400 or status >= 500:
        return Failed(f"answered {status}", retry_after, status)
    shown = _shown(headers, answer)
    return Rejected(f"answered {status}" + (f": {shown}" if shown else ""), status)


def _delivered(status: int, answer: bytes) -> Delivered:
    if status == _OK and answer:
        said = answer[:_SAYS]
        if b'"processed_inline"' in said:
            return _INLINE
        if b'"queued"' in said:
            return _QUEUED
    return _DELIVERED[status]


def _shown(headers: Iterable[tuple[bytes, bytes]], answer: bytes) -> str:
    """The beginning of an answer, with our line ends; of one that is encoded, though nobody asked for it, only how."""
    for name, value in headers:
        if name.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return f"a body in content coding {value.decode('latin-1').strip()}, which is not shown"
    return answer[:MAX_SHOWN].decode("utf-8", "replace").replace("\r\n", "\n").strip()


def parse_retry_after(headers: Iterable[tuple[bytes, bytes]], now: float) -> float | None:
    """Seconds, from a number or a date (RFC 9110 section 10.2.3); None where there is none that makes sense."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            return min(float(text), _MAX_SECONDS) if _SECONDS.fullmatch(text) else _seconds_until(text, now)
    return None


def _seconds_until(date: str, now: float) -> float | None:
    """Dates are in GMT, also in the two old forms that do not say so (RFC 9110 section 5.6.7)."""
    try:
        moment = parsedate_to_datetime(date)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def outcomes_of(
    status: int, headers: Iterable[tuple[bytes, bytes]], answer: bytes, events: int, now: float | None = None
) -> list[Outcome]:
    """Of a batch of `events`, in their order. `answer`: the whole body, or more of it than the statuses can be."""
    each = _statuses(answer, events) if status in (_MULTI_STATUS, _OK) else None
    if each is not None:
        outcomes = [outcome_of(one, headers, shown, now) for one, shown in each]
        return proven(outcomes) if took_any(outcomes) else outcomes
    if status == _MULTI_STATUS:
        return [Failed(f"answered {_MULTI_STATUS} without one status for each event", None, status)] * events
    return [outcome_of(status, headers, answer, now)] * events


def took_any(outcomes: Sequence[Outcome]) -> bool:
    return any(isinstance(outcome, Delivered) for outcome in outcomes)


def proven(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What was rejected was the event's fault, for the receiver took others of its batch."""
    return [
        Rejected(outcome.reason, outcome.status, is_proven=True) if isinstance(outcome, Rejected) else outcome
        for outcome in outcomes
    ]


def _statuses(answer: bytes, events: int) -> list[tuple[int, bytes]] | None:
    """The status of each event, and the object it stands in; None where the answer is anything else."""
    try:
        items = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(items, list) or len(items) != events:
        return None
    found: list[tuple[int, bytes]] = []
    for item in items:
        status = item.get("status") if isinstance(item, dict) else item
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
            return None
        found.append((status, orjson.dumps(item) if isinstance(item, dict) else b""))
    return found
