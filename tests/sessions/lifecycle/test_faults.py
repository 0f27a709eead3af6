"""What is wrong with a session that somebody runs, decided from what is known of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sessions.lifecycle.faults import Fault, fault_of, is_over, why_not_restarted
from sessions.lifecycle.policies import KINDS, Kind, Watch
from sessions.records import SessionRow
from sessions.signs import NotedFault, Signs
from sessions.states import STATES
from sluice.config.model import Rate

NOW = 1_800_000_000.0
ALL = Watch(qr_scanning=300.0, restart=KINDS)


def row(state: str, seconds: float = 10**6, fault: NotedFault | None = None, **signs: Any) -> SessionRow:
    """`seconds`: in that state."""
    runs = ("w1", "http://w1:3000", 7, 9.0)
    return SessionRow("s", {}, None, state, None, NOW - seconds, *runs, signs=Signs(**signs), fault=fault)


def noted(kind: Kind, ago: float = 100.0) -> NotedFault:
    return NotedFault(kind, NOW - ago, NOW - ago, "why")


def found(one: SessionRow, policy: Watch = ALL) -> tuple[str, str] | None:
    fault = fault_of(one, policy, NOW)
    return None if fault is None else (fault.kind, fault.reason)


@pytest.mark.parametrize(
    ("heard", "sent", "silent"),
    [
        (1900.0, 1801.0, True),  # sent something after its last event, half an hour ago
        (1900.0, 1799.0, False),  # not yet that long
        (1700.0, 1801.0, False),  # an event came after that
        (86_400.0, None, False),  # a quiet night
        (None, 1801.0, False),  # its events come to somebody else
    ],
)
def test_who_was_sent_something_and_says_nothing_is_silent(
    heard: float | None, sent: float | None, silent: bool
) -> None:
    signs = {name: NOW - ago for name, ago in (("heard", heard), ("sent", sent)) if ago is not None}
    what = ("silent", "it was sent something 30m ago, and no event of it has come since")
    assert found(row("connected", **signs)) == (what if silent else None)
    assert found(row("disconnected", 60.0, **signs)) is None
    assert found(row("connected", **signs), replace(ALL, silent=None)) is None


def test_a_send_before_it_became_connected_tells_nothing() -> None:
    assert found(row("connected", 1800.0, heard=NOW - 9000, sent=NOW - 3600)) is None


@pytest.mark.parametrize(
    ("ago", "flaps"), [((500, 400, 300, 200, 1), True), ((601, 400, 300, 200, 1), False), ((9, 8, 7, 6), False)]
)
def test_who_loses_its_connection_too_often_is_flapping(ago: tuple[float, ...], flaps: bool) -> None:
    lost = tuple(NOW - one for one in ago)
    why = ("flapping", "it lost its connection 5 times in 10m")
    assert found(row("connected", 1.0, lost=lost)) == (why if flaps else None)
    assert found(row("connected", 1.0, lost=lost), replace(ALL, flapping=None)) is None


@pytest.mark.parametrize(
    ("state", "bound"), [("starting", 600), ("qr_scanning", 300), ("authenticated", 300), ("disconnected", 600)]
)
def test_who_is_in_a_state_for_too_long_is_stuck(state: str, bound: float) -> None:
    assert found(row(state, bound - 1)) is None
    assert found(row(state, bound + 1)) == (state, f"it is {state} for {bound // 60}m")


def test_who_waits_for_a_person_to_scan_its_code_is_not_stuck_unless_the_policies_say_so() -> None:
    assert found(row("qr_scanning"), Watch()) is None


@pytest.mark.parametrize("state", ["created", "logged_out", "failed", "connected"])
def test_in_other_states_nobody_is_stuck(state: str) -> None:
    assert found(row(state)) is None


def test_nothing_is_wrong_with_what_nobody_runs() -> None:
    stuck = row("starting")
    assert found(replace(stuck, worker=None)) is None
    assert found(replace(stuck, ended="deleted")) is None
    assert found(replace(stuck, missing_since=NOW - 9)) is None


def test_it_is_over_when_it_is_connected_again_and_not_on_the_way_there() -> None:
    fault = noted("disconnected")
    assert is_over(row("connected", 1.0, fault), ALL, NOW) == "it is connected, and does well"
    for state in ("starting", "qr_scanning", "authenticated", "disconnected"):
        assert is_over(row(state, 1.0, fault), ALL, NOW) is None
    assert is_over(row("logged_out", 1.0, fault), ALL, NOW) == "it is logged_out"
    assert is_over(row("qr_scanning", 1.0, fault), Watch(), NOW) == "it is qr_scanning"
    assert is_over(replace(row("starting", 1.0, fault), ended="deleted"), ALL, NOW) == "it was ended"
    assert is_over(replace(row("connected", 1.0, fault), worker=None), ALL, NOW) is None


def test_a_silent_one_has_to_be_heard_of() -> None:
    fault = noted("silent", 100.0)
    assert is_over(row("connected", 1.0, fault, heard=NOW - 200), ALL, NOW) is None
    assert is_over(row("connected", 1.0, fault, heard=NOW - 50), ALL, NOW) is not None


def test_a_restart_waits_for_sends_for_its_turn_and_for_what_the_last_one_brought() -> None:
    stuck, fault = row("starting"), Fault("starting", NOW - 1000, "why")
    policy = replace(ALL, restarts=Rate(2, 3600.0))

    def why(**signs: Any) -> str | None:
        return why_not_restarted(replace(stuck, signs=Signs(**signs)), fault, policy, NOW)

    assert why() is None
    assert why(sending=NOW - 1) == "sending"
    assert why(sending=NOW - 60) is None
    assert why(restarting_until=NOW + 1) == "restarting"
    assert why(restarts=(NOW - 599,)) == "restarting"
    assert why(restarts=(NOW - 601,)) is None
    assert why(restarts=(NOW - 3599, NOW - 601)) == "limited"
    assert why(restarts=(NOW - 3601, NOW - 601)) is None


MOMENTS = st.floats(NOW - 10**6, NOW + 10**4)
SIGNS = st.builds(
    Signs,
    heard=st.none() | MOMENTS,
    sent=st.none() | MOMENTS,
    sending=st.none() | MOMENTS,
    lost=st.lists(MOMENTS, max_size=20).map(sorted).map(tuple),
    restarts=st.lists(MOMENTS, max_size=20).map(sorted).map(tuple),
    restarting_until=st.none() | MOMENTS,
)


@given(
    st.sampled_from(STATES),
    st.floats(-(10**4), 10**6),
    SIGNS,
    st.none() | st.sampled_from(KINDS).map(noted),
    st.booleans(),
)
def test_whatever_is_known_it_is_decided_and_is_never_wrong_and_over_at_once(
    state: str, seconds: float, signs: Signs, fault: NotedFault | None, runs: bool
) -> None:
    """Clocks may have jumped: moments may lie in the future."""
    one = replace(row(state, seconds, fault), signs=signs)
    one = one if runs else replace(one, worker=None)
    wrong = fault_of(one, ALL, NOW)
    if wrong is not None:
        assert is_over(one, ALL, NOW) is None
        assert runs
        assert wrong.reason.isprintable()
    if wrong is not None and wrong.kind == "silent":
        assert state == "connected"
        assert signs.heard is not None
        assert signs.sent is not None
        assert signs.heard < signs.sent <= NOW - 1800
    if wrong is not None and wrong.kind in STATES:
        assert wrong.kind == state
        assert seconds >= 300
