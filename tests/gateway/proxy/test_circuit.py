from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.proxy import circuit as guard_file
from gateway.proxy.circuit import FIRST_OPEN, MAX_OPEN, MINIMUM, RATIO, WINDOW, Admission, Refused, UpstreamCircuit
from sluice.observe.log import Log

LEASE = 60.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A guard, its clock, and what it showed."""

    clock: Clock = field(default_factory=Clock)
    shown: list[str] = field(default_factory=list)
    shown_too: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        self.guard = UpstreamCircuit("laravel", self.clock, probe_lease=LEASE, show=self._show)

    def _show(self, name: str, state: str) -> None:
        self.shown.append(f"{name} {state}")
        if self.shown_too:
            self.shown_too(state)

    def state(self) -> str:
        return self.guard.state

    def admitted(self) -> Admission:
        admission = self.guard.admit()
        assert isinstance(admission, Admission)
        return admission

    def refused(self) -> float:
        refused = self.guard.admit()
        assert isinstance(refused, Refused)
        return refused.retry_after

    def calls(self, results: str) -> None:
        """One call after the other: + went well, - failed, 0 its client left."""
        for result in results:
            report(self.admitted(), result)

    def open(self) -> None:
        self.calls("-" * MINIMUM)
        assert self.state() == "open"

    def probe(self) -> Admission:
        """The first call after the open time."""
        self.clock.now += self.refused()
        return self.admitted()


def report(admission: Admission, result: str) -> None:
    match result:
        case "+":
            admission.succeeded()
        case "-":
            admission.failed("it broke off")
        case _:
            admission.abandoned()


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- what opens it


def test_it_begins_closed(bench: Bench) -> None:
    assert bench.state() == "closed"
    assert bench.shown == ["laravel closed"]


def test_a_good_call_in_between_does_not_hide_that_most_fail(bench: Bench) -> None:
    bench.calls("----+" * 3 + "----")
    assert bench.state() == "closed"
    bench.calls("-")
    assert bench.state() == "open"


def test_fewer_calls_than_the_minimum_prove_nothing(bench: Bench) -> None:
    bench.calls("-" * (MINIMUM - 1))
    assert bench.state() == "closed"


def test_just_under_half_is_not_enough(bench: Bench) -> None:
    bench.calls("+" * 11 + "-" * 9)
    bench.calls("+-" * 50)
    assert bench.state() == "closed"
    bench.calls("--")
    assert bench.state() == "open"


def test_a_good_call_that_makes_up_the_minimum_opens_it_when_half_failed(bench: Bench) -> None:
    bench.calls("-" * (MINIMUM - 1) + "+")
    assert bench.state() == "open"


def test_clients_that_leave_count_as_neither_good_nor_bad(bench: Bench) -> None:
    bench.calls("0" * 500)
    assert bench.state() == "closed"
    bench.calls("-0000" * (MINIMUM - 1))
    assert bench.state() == "closed"
    bench.calls("-")
    assert bench.state() == "open"


def test_what_is_older_than_the_window_is_forgotten(bench: Bench) -> None:
    bench.calls("-" * (MINIMUM - 1))
    bench.clock.now += WINDOW
    bench.calls("-" * (MINIMUM - 1))
    assert bench.state() == "closed"


def test_what_lies_within_the_window_is_remembered(bench: Bench) -> None:
    for _ in range(int(WINDOW)):
        bench.calls("--")
        bench.clock.now += 1.0
    assert bench.state() == "open"


def test_old_good_calls_do_not_outweigh_a_window_of_failures(bench: Bench) -> None:
    bench.calls("+" * 1000)
    bench.clock.now += WINDOW - 1
    bench.calls("-" * MINIMUM)
    assert bench.state() == "closed"
    bench.clock.now += 1
    bench.calls("+")
    assert bench.state() == "open"


def test_a_quiet_week_is_forgotten_at_once(bench: Bench) -> None:
    bench.calls("-" * (MINIMUM - 1))
    bench.clock.now += 7 * 86400
    bench.calls("-" * (MINIMUM - 1))
    assert bench.state() == "closed"


def test_only_the_first_report_of_a_call_counts(bench: Bench) -> None:
    for _ in range(MINIMUM):
        admission = bench.admitted()
        admission.succeeded()
        admission.failed()
        admission.failed()
        admission.abandoned()
    assert bench.state() == "closed"
    admission = bench.admitted()
    admission.abandoned()
    bench.calls("-" * (MINIMUM - 1))
    admission.failed()
    assert bench.state() == "closed"


# --- how long it is open


def test_open_it_refuses_and_says_for_how_long(bench: Bench) -> None:
    bench.open()
    assert bench.refused() == FIRST_OPEN
    bench.clock.now += 0.75
    assert bench.refused() == 0.25


def test_its_open_time_doubles_with_each_failed_probe_up_to_the_longest(bench: Bench) -> None:
    bench.open()
    waits = [bench.refused()]
    for _ in range(2000):
        bench.probe().failed()
        waits.append(bench.refused())
    assert waits[:6] == [1, 2, 4, 8, 16, 30]
    assert set(waits[6:]) == {MAX_OPEN}


def test_a_good_probe_closes_it_and_the_open_time_begins_anew(bench: Bench) -> None:
    bench.open()
    for _ in range(3):
        bench.probe().failed()
    bench.probe().succeeded()
    assert bench.state() == "closed"
    bench.open()
    assert bench.refused() == FIRST_OPEN


def test_closed_again_it_starts_with_an_empty_window(bench: Bench) -> None:
    bench.open()
    bench.probe().succeeded()
    bench.calls("-" * (MINIMUM - 1))
    assert bench.state() == "closed"


# --- half-open


def test_half_open_one_of_500_goes_through(bench: Bench) -> None:
    bench.open()
    bench.clock.now += FIRST_OPEN
    answers = [bench.guard.admit() for _ in range(500)]
    assert [type(answer) for answer in answers] == [Admission] + [Refused] * 499
    assert bench.state() == "half-open"
    assert bench.refused() == FIRST_OPEN


def test_with_more_probes_the_first_to_end_decides_and_the_next_find_all_places_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_file, "PROBES", 2)
    bench.open()
    probe, other = bench.probe(), bench.admitted()
    bench.refused()
    probe.failed()
    other.succeeded()
    assert bench.refused() == 2 * FIRST_OPEN
    bench.probe()
    bench.admitted()
    bench.refused()


def test_a_cancelled_probe_frees_its_place(bench: Bench) -> None:
    bench.open()
    for _ in range(20):
        bench.clock.now += FIRST_OPEN
        probe = bench.admitted()
        bench.refused()
        probe.abandoned()
    assert bench.state() == "half-open"
    bench.admitted().succeeded()
    assert bench.state() == "closed"


def test_a_probe_nobody_reports_on_is_lost_when_its_lease_ends(bench: Bench) -> None:
    bench.open()
    lost = bench.probe()
    bench.clock.now += LEASE - 0.25
    bench.refused()
    bench.clock.now += 0.25
    probe = bench.admitted()
    bench.refused()
    lost.failed()
    lost.abandoned()
    assert bench.state() == "half-open"
    bench.refused()
    probe.succeeded()
    assert bench.state() == "closed"


def test_a_lost_probe_says_nothing_when_its_follower_has_left_too(bench: Bench) -> None:
    bench.open()
    lost = bench.probe()
    bench.clock.now += LEASE
    bench.admitted().abandoned()
    lost.failed()
    assert bench.state() == "half-open"


# --- results that come late


@pytest.mark.parametrize("late", ["+", "-", "0"])
def test_calls_begun_before_it_opened_say_nothing_later(bench: Bench, late: str) -> None:
    open_, half_open, closed = ([bench.admitted() for _ in range(2 * MINIMUM)] for _ in range(3))
    bench.open()
    for admission in open_:
        report(admission, late)
    assert (bench.state(), bench.refused()) == ("open", FIRST_OPEN)
    probe = bench.probe()
    for admission in half_open:
        report(admission, late)
    assert bench.state() == "half-open"
    bench.refused()
    probe.succeeded()
    for admission in closed:
        report(admission, late)
    assert bench.state() == "closed"
    bench.calls("-" * (MINIMUM - 1))
    assert bench.state() == "closed"


def test_late_failures_do_not_put_off_the_next_probe(bench: Bench) -> None:
    late = [bench.admitted() for _ in range(10)]
    bench.open()
    for admission in late:
        bench.clock.now += FIRST_OPEN / 10
        admission.failed()
    bench.admitted()


# --- what people see


class Lines(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__("gateway")
        self.kept: list[tuple[str, str, dict[str, object]]] = []

    def info(self, message: str, **fields: object) -> None:
        self.kept.append(("info", message, fields))

    def warning(self, message: str, **fields: object) -> None:
        self.kept.append(("warning", message, fields))


def test_each_change_is_logged_and_shown_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    monkeypatch.setattr(guard_file, "LOG", lines)
    bench.calls("+-" * (MINIMUM // 2))
    for _ in range(50):
        bench.refused()
    probe = bench.probe()
    for _ in range(50):
        bench.refused()
    probe.failed("laravel did not answer in time")
    bench.probe().succeeded()
    assert lines.kept == [
        (level, "upstream.circuit", {"name": "laravel", "state": state, "why": why})
        for level, state, why in [
            ("warning", "open", "10 of 20 calls failed: it broke off"),
            ("info", "half-open", "was open for 1s"),
            ("warning", "open", "the probe failed: laravel did not answer in time"),
            ("info", "half-open", "was open for 2s"),
            ("info", "closed", "the probe went well"),
        ]
    ]
    states = ["closed", "open", "half-open", "open", "half-open", "closed"]
    assert bench.shown == [f"laravel {state}" for state in states]


def test_whoever_is_shown_a_change_finds_the_guard_changed(bench: Bench) -> None:
    found: list[bool] = []
    bench.shown_too = lambda state: found.append(bench.state() == state)
    bench.open()
    bench.probe().failed()
    bench.probe().succeeded()
    assert found == [True] * 5


# --- aiobreaker's clocks


class _NoWallClock:
    """In the place of aiobreaker's `datetime`: whoever asks it for the time fails."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"datetime.{name} was used")


@pytest.fixture(params=["America/New_York", "UTC", "Asia/Kolkata"])
def time_zone(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


def test_time_zones_change_nothing(time_zone: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    offset = {"America/New_York": -5, "UTC": 0, "Asia/Kolkata": 5.5}[time_zone]
    assert time.localtime(0).tm_gmtoff == offset * 3600  # the zone is known here
    for module in ("circuitbreaker", "state"):
        monkeypatch.setattr(f"aiobreaker.{module}.datetime", _NoWallClock())
    bench.open()
    assert bench.refused() == FIRST_OPEN
    bench.probe().failed()
    assert bench.refused() == 2 * FIRST_OPEN
    probe = bench.probe()
    bench.refused()
    probe.succeeded()
    assert bench.state() == "closed"


@pytest.mark.usefixtures("time_zone")
def test_without_a_clock_it_goes_by_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_file, "FIRST_OPEN", 0.1)
    guard = UpstreamCircuit("laravel")
    for _ in range(MINIMUM):
        report(guard.admit(), "-")  # type: ignore[arg-type]
    refused = guard.admit()
    assert isinstance(refused, Refused)
    assert 0 < refused.retry_after <= 0.1
    time.sleep(0.11)
    assert isinstance(guard.admit(), Admission)


# --- whatever happens


class AnyLife(RuleBasedStateMachine):
    """A guard beside a model that keeps every result and every call under way."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(0.0)
        self.guard = UpstreamCircuit("laravel", self.clock, probe_lease=LEASE)
        self.state = "closed"
        self.results: list[tuple[float, bool]] = []
        self.open_for = FIRST_OPEN
        self.until = 0.0
        self.calls: list[Admission] = []
        self.stale: list[Admission] = []
        self.probe: tuple[Admission, float] | None = None

    @rule(quarters=st.integers(1, 16))
    def time_passes(self, quarters: int) -> None:
        self.clock.now += quarters / 4

    @rule()
    def a_little_time_passes(self) -> None:
        self.clock.now += 0.25

    @precondition(lambda self: self.state == "open")
    @rule()
    def the_open_time_passes(self) -> None:
        self.clock.now = max(self.clock.now, self.until)

    @precondition(lambda self: self.probe)
    @rule()
    def the_probe_is_lost(self) -> None:
        assert self.probe
        self.clock.now = max(self.clock.now, self.probe[1])

    @rule(calls=st.integers(1, 25))
    def calls_come(self, calls: int) -> None:
        answers = [self.guard.admit() for _ in range(calls)]
        admitted = [answer for answer in answers if isinstance(answer, Admission)]
        waits = [answer.retry_after for answer in answers if isinstance(answer, Refused)]
        if self.state == "closed":
            assert len(admitted) == calls
            self.calls += admitted
            return
        assert len(admitted) == self._probes_due()
        if self.state == "open" and not admitted:
            assert set(waits) == {self.until - self.clock.now}
            return
        self.state = "half-open"
        assert all(0 < wait <= MAX_OPEN for wait in waits)
        if admitted:
            if self.probe:
                self.stale.append(self.probe[0])
            self.probe = (admitted[0], self.clock.now + LEASE)

    def _probes_due(self) -> int:
        if self.state == "open":
            return int(self.clock.now >= self.until)
        return int(self.probe is None or self.clock.now >= self.probe[1])

    @precondition(lambda self: self.calls)
    @rule(results=st.sampled_from(["+", "-", "0", "+-", "-+", "-+-0", "+-+"]), times=st.integers(1, 15))
    def calls_end(self, results: str, times: int) -> None:
        for result in results * times:
            if self.calls:
                self._call_ends(len(self.calls) // 2, result)

    @precondition(lambda self: self.state == "closed")
    @rule()
    def an_outage_begins(self) -> None:
        self.calls_come(2 * MINIMUM)
        while len(self.calls) > MINIMUM:
            self._call_ends(0, "-")

    def _call_ends(self, index: int, result: str) -> None:
        call = self.calls.pop(index)
        self.stale.append(call)
        report(call, result)
        if result == "0":
            return  # says nothing, so nothing is decided again, whatever has left the window meanwhile
        self.results.append((self.clock.now, result == "-"))
        if self._too_many_failed():
            self._opens(FIRST_OPEN)

    def _too_many_failed(self) -> bool:
        slot = self.clock.now // 1
        failed = [failed for at, failed in self.results if at // 1 > slot - WINDOW]
        return len(failed) >= MINIMUM and sum(failed) >= RATIO * len(failed)

    @precondition(lambda self: self.probe)
    @rule(result=st.sampled_from("+-0"))
    def the_probe_ends(self, result: str) -> None:
        assert self.probe
        probe, self.probe = self.probe[0], None
        report(probe, result)
        self.stale.append(probe)
        if result == "+":
            self.state, self.results = "closed", []
        elif result == "-":
            self._opens(min(MAX_OPEN, self.open_for * 2))

    @precondition(lambda self: self.stale)
    @rule(result=st.sampled_from("+-0"))
    def what_no_longer_counts_is_reported(self, result: str) -> None:
        for call in self.stale:
            report(call, result)

    def _opens(self, seconds: float) -> None:
        self.state, self.open_for, self.until = "open", seconds, self.clock.now + seconds
        self.stale += self.calls
        self.calls = []

    @invariant()
    def it_is_where_the_model_is(self) -> None:
        assert self.guard.state == self.state


AnyLife.TestCase.settings = settings(deadline=None, stateful_step_count=80)
TestAnyLife = AnyLife.TestCase
