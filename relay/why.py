"""Why an event has not been delivered yet, or what became of it, in one sentence. No I/O."""

from __future__ import annotations

from relay.circuit import CircuitStatus
from relay.deliver.retry import others_got_through
from relay.queue.history import EndpointHistory, EventHistory


def why(
    here: EndpointHistory,
    event: EventHistory,
    circuit: CircuitStatus,
    *,
    pace: float | None,
    attempts: int,
    relays: int,
) -> str:
    """`pace`: seconds between two attempts, None: no pace. `attempts`: how many there may be. `relays`: alive ones."""
    match here.state:
        case "delivered":
            took = (here.at or event.now) - event.accepted_at
            return f"delivered {_seconds(took)} after it was accepted, by attempt {here.failed + 1}"
        case "expired":
            return "not sent: it was no longer worth sending (relay.events, ttl)"
        case "replaced":
            return f"not sent: {here.reason} took its place (relay.events, keep: latest)"
        case "superseded":
            return f"not sent: {here.reason} is newer and supersedes it (relay.events, supersede)"
        case "dropped":
            return _first_line(here.reason)
        case "dead":
            return f"a dead letter: {_first_line(here.reason)}; `sluice dead replay {event.id}` sends it again"
        case "leased":
            return f"being delivered right now, attempt {here.failed + 1}"
        case _:
            return _why_waiting(here, event, circuit, pace, attempts, relays)


def _why_waiting(
    here: EndpointHistory, event: EventHistory, circuit: CircuitStatus, pace: float | None, attempts: int, relays: int
) -> str:
    if circuit.held and circuit.state == "open":
        return f"a person holds the circuit of {here.endpoint} open: {circuit.why or 'no reason given'}"
    if circuit.state == "open":
        return f"the circuit of {here.endpoint} is open for {_seconds(circuit.retry_after)} more: {circuit.why}"
    wait = (here.due or event.now) - event.now
    if here.waits_for is not None:
        older = f"waits behind {here.older} older of its session, first {here.waits_for}"
        return f"{older}, which goes on in {_seconds(wait)} at the latest" if wait > 0 else older
    if wait > 0:
        if here.awaits is not None and not here.delayed_by:
            awaits = f"until {here.awaits} is delivered" if here.awaits else f"{_seconds(wait)} at most"
            return f"waits {awaits} for what goes first in its session (relay.events, first)"
        if here.failed == 0 and not here.attempts:
            by = f"the limit {here.delayed_by}" if here.delayed_by else "a limit"
            return f"held back for {_seconds(wait)} more by {by} with over: queue"
        return f"waits {_seconds(wait)} for {_next_attempt(here, event, circuit, attempts)}"
    if not relays:
        return "it is due, but no relay is running"
    if circuit.state == "half-open":
        return f"the circuit of {here.endpoint} is half-open: it waits for a probe to succeed"
    if pace is not None:
        return f"it is due, and waits for the pace of {here.endpoint}: one every {_seconds(pace)}"
    return "it is due, and is sent next"


def _next_attempt(here: EndpointHistory, event: EventHistory, circuit: CircuitStatus, attempts: int) -> str:
    last = here.attempts[-1] if here.attempts else None
    number = f"attempt {min(here.failed + 1, attempts)} of {attempts}"
    if last is None:
        return number
    counts = others_got_through(last.at, circuit.ok_at, event.now)
    uncounted = "" if counts else ", which does not count while nobody gets through"
    return f"{number}{uncounted}: {_first_line(last.reason)}"


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200] or "no reason given"


def _seconds(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 120:
        return f"{seconds:.1f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.1f}h"
