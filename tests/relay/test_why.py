"""The sentence about an event that has not been delivered yet, or is no longer there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.circuit import CircuitStatus
from relay.queue.history import EndpointHistory, EventHistory
from relay.queue.history_codec import Attempt
from relay.why import why

CLOSED = CircuitStatus("closed", 0.0, "")
EVENT = EventHistory("evt_1", "s", "normal", 1000.0, 1100.0, (), None)
WAITING = EndpointHistory("laravel", "waiting", 0, (), due=1000.0)
FAILED = replace(WAITING, failed=2, due=1112.0, attempts=(Attempt(1099.0, 500, 3.0, "answered 500\nmore"),))


@pytest.mark.parametrize(
    ("here", "circuit", "pace", "relays", "sentence"),
    [
        (
            replace(WAITING, state="delivered", at=1000.25, failed=1),
            CLOSED,
            None,
            1,
            "delivered 250ms after it was accepted, by attempt 2",
        ),
        (
            replace(WAITING, state="dead", reason="answered 422: no"),
            CLOSED,
            None,
            1,
            "a dead letter: answered 422: no; `sluice dead replay evt_1` sends it again",
        ),
        (replace(WAITING, state="leased", failed=1), CLOSED, None, 1, "being delivered right now, attempt 2"),
        (FAILED, replace(CLOSED, ok_at=1099.5), None, 1, "waits 12.0s for attempt 3 of 12: answered 500"),
        (
            FAILED,
            replace(CLOSED, ok_at=1098.5),
            None,
            1,
            "waits 12.0s for attempt 3 of 12, which does not count while nobody gets through: answered 500",
        ),
        (
            FAILED,
            CircuitStatus("open", 4.0, "answered 429"),
            None,
            1,
            "the circuit of laravel is open for 4.0s more: answered 429",
        ),
        (
            WAITING,
            CircuitStatus("open", 0.0, "moving house", held=True),
            None,
            1,
            "a person holds the circuit of laravel open: moving house",
        ),
        (
            replace(WAITING, older=3, waits_for="evt_0"),
            CLOSED,
            None,
            1,
            "waits behind 3 older of its session, first evt_0",
        ),
        (
            replace(WAITING, older=3, waits_for="evt_0", due=1107.0),
            CLOSED,
            None,
            1,
            "waits behind 3 older of its session, first evt_0, which goes on in 7.0s at the latest",
        ),
        (replace(WAITING, due=1105.0), CLOSED, None, 1, "held back for 5.0s more by a limit with over: queue"),
        (
            replace(WAITING, due=1105.0, delayed_by="message"),
            *(CLOSED, None, 1),
            "held back for 5.0s more by the limit message with over: queue",
        ),
        (WAITING, CLOSED, None, 0, "it is due, but no relay is running"),
        (WAITING, CLOSED, 0.06, 1, "it is due, and waits for the pace of laravel: one every 60ms"),
        (WAITING, CLOSED, None, 1, "it is due, and is sent next"),
        (
            WAITING,
            CircuitStatus("half-open", 0.0, "answered 500"),
            None,
            1,
            "the circuit of laravel is half-open: it waits for a probe to succeed",
        ),
    ],
)
def test_why_it_is_not_there_yet(
    here: EndpointHistory, circuit: CircuitStatus, pace: float | None, relays: int, sentence: str
) -> None:
    assert why(here, EVENT, circuit, pace=pace, attempts=12, relays=relays) == sentence
