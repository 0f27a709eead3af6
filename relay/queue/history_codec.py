"""What the store keeps of attempts and of events that have left: lines of text, described in `lua/partition.lua`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from relay.queue.codec import id_of, split_stream, stream_of

Departure = Literal["delivered", "expired", "replaced", "superseded", "dropped"]
_DEPARTURES: dict[bytes, Departure] = {name.encode(): name for name in get_args(Departure)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that has ended. `at` in unix seconds, `status` None: there was no answer."""

    at: float
    status: int | None
    ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class Departed:
    """An event that has left the queue of an endpoint. Moments in unix seconds."""

    entry_id: bytes
    at: float
    accepted_at: float
    state: Departure
    failed: int
    """Attempts that failed before it left."""
    summary: str
    """Delivered: of the last attempt, with the event's type as its reason; replaced, superseded: the id of the
    newer event; dropped: why it had died."""
    attempts: tuple[Attempt, ...]

    @property
    def type(self) -> str | None:
        """None: it has left undelivered, or was delivered by an earlier version."""
        return self.summary.partition(" ")[2].partition(" ")[2] or None if self.state == "delivered" else None

    @property
    def id(self) -> str:
        return text(id_of(self.entry_id))

    @property
    def session(self) -> str | None:
        """None: it has none, or its endpoint keeps no order."""
        name = split_stream(stream_of(self.entry_id))[1]
        return name if name != self.id else None


def attempt_log_field(entry_id: bytes) -> bytes:
    """The field of the `attempts` hash that has the log of its last attempts."""
    return entry_id + b"\3"


def summary_of(status: int | None, ms: float, reason: str = "") -> str:
    """An attempt in one line; `read_attempt` reads it."""
    summary = f"{status or '-'} {ms:.0f}"
    return f"{summary} {reason}" if reason else summary


def read_attempt(at: float, summary: str) -> Attempt:
    status, ms, *reason = summary.split(" ", 2)
    return Attempt(at, int(status) if status.isdigit() else None, float(ms), reason[0] if reason else "")


def read_attempts(log: bytes | None) -> tuple[Attempt, ...]:
    """Oldest first."""
    lines = (line.partition(b" ") for line in (log or b"").split(b"\n") if line)  # an answer may hold CR
    return tuple(read_attempt(int(at) / 1000, text(summary)) for at, _, summary in lines)


def written_at(page: bytes) -> float:
    """Unix seconds."""
    return int(page.partition(b" ")[0]) / 1000


def find_on_page(page: bytes, event_id: bytes) -> Departed | None:
    """The last entry about this event; None: the page has none."""
    if b"\0" + event_id + b"\1" not in page:
        return None
    return next((entry for entry in reversed([*entries(page)]) if id_of(entry.entry_id) == event_id), None)


def entries(page: bytes) -> Iterator[Departed]:
    at = written_at(page)
    rest = page.partition(b"\n")[2]
    while rest:
        line, _, rest = rest.partition(b"\n")
        entry_id, _, rest = rest.partition(b"\1")
        accepted, state, failed, length, summary = line.split(b" ", 4)
        log, rest = rest[: int(length)], rest[int(length) :]
        yield Departed(
            entry_id, at, int(accepted) / 1000, _DEPARTURES[state], int(failed), text(summary), read_attempts(log)
        )


def text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
