from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.proxy import circuit as guard_file
from gateway.proxy.circuit import (
    HEARD_WITHIN,
    MAX_PROBES,
    MAX_WAITING,
    MINIMUM,
    PROBE_EVERY,
    RATIO,
    WAIT,
    WINDOW,
    Admission,
    Refused,
    UpstreamCircuit,
)
from sluice.observe.log import Log
from tests.waiting import until


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
        self.guard = UpstreamCircuit("laravel", self.clock, show=self._show)

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

    def has_to_wait(self) -> None:
        assert self.guard.admit() is None

    def calls(self, results: str) -> None:
        """One call after the other: + went well, - failed, 0 its client left."""
        for result in results:
            report(self.admitted(), result)

    def open(self) -> None:
        self.calls("-" * MINIMUM)
        assert self.state() == "open"

    def probe(self) -> Admission:
        """The first call a second later."""
        self.clock.now += PROBE_EVERY
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


# --- while it is open


def test_open_it_lets_one_call_a_second_through(bench: Bench) -> None:
    bench.open()
    bench.clock.now += 0.75
    bench.has_to_wait()
    for _ in range(100):
        bench.clock.now += 0.25
        probe = bench.admitted()
        answers = [bench.guard.admit() for _ in range(500)]
        assert set(answers) == {None}
        probe.failed()
        bench.clock.now += 0.75
        bench.has_to_wait()
    assert bench.state() == "open"


def test_after_an_outage_of_any_length_the_first_good_probe_closes_it(bench: Bench) -> None:
    bench.open()
    for _ in range(45):
        bench.probe().failed()
    bench.probe().succeeded()
    assert bench.state() == "closed"


def test_closed_again_it_starts_with_an_empty_window(bench: Bench) -> None:
    bench.open()
    bench.probe().succeeded()
    bench.calls("-" * (MINIMUM - 1))
    assert bench.state() == "closed"


def test_a_probe_that_hangs_does_not_keep_the_next_one_waiting(bench: Bench) -> None:
    bench.open()
    hangs = bench.probe()
    bench.has_to_wait()
    fails = bench.probe()
    fails.failed()
    assert bench.state() == "half-open"
    bench.probe().succeeded()
    assert bench.state() == "closed"
    hangs.failed()
    bench.calls("-" * (MINIMUM - 1))
    assert bench.state() == "closed", "a probe of the outage says nothing after it"


def test_a_slow_probe_closes_it_though_quicker_ones_failed_meanwhile(bench: Bench) -> None:
    bench.open()
    slow = bench.probe()
    for _ in range(5):
        bench.probe().failed()
    slow.succeeded()
    assert bench.state() == "closed"


def test_probes_under_way_are_bounded(bench: Bench) -> None:
    bench.open()
    probes = [bench.probe() for _ in range(MAX_PROBES)]
    bench.clock.now += PROBE_EVERY
    bench.has_to_wait()
    probes[0].failed()
    bench.admitted()


def test_a_probe_whose_client_left_frees_its_place_at_once(bench: Bench) -> None:
    bench.open()
    bench.clock.now += PROBE_EVERY
    for _ in range(20):
        probe = bench.admitted()
        bench.has_to_wait()
        probe.abandoned()
    assert bench.state() == "open"
    bench.admitted().succeeded()
    assert bench.state() == "closed"


# --- who waits for the outcome of a probe


@pytest.fixture
def opened() -> UpstreamCircuit:
    """By the real clock."""
    guard = UpstreamCircuit("laravel")
    for _ in range(MINIMUM):
        admission = guard.admit()
        assert admission
        admission.failed()
    assert guard.admit() is None
    return guard


@pytest.mark.anyio
async def test_the_first_that_waits_is_the_next_probe_and_the_others_get_its_outcome(opened: UpstreamCircuit) -> None:
    first = asyncio.create_task(opened.wait())
    await until(lambda: opened.waiting == 1)
    others = [asyncio.create_task(opened.wait()) for _ in range(5)]
    probe = await first
    assert isinstance(probe, Admission)
    assert opened.state == "half-open"
    assert not any(other.done() for other in others)
    probe.succeeded()
    assert all(isinstance(one, Admission) for one in await asyncio.gather(*others))
    assert opened.state == "closed"


@pytest.mark.anyio
async def test_who_waits_is_refused_as_soon_as_the_probe_has_failed(opened: UpstreamCircuit) -> None:
    first = asyncio.create_task(opened.wait())
    await until(lambda: opened.waiting == 1)
    other = asyncio.create_task(opened.wait())
    probe = await first
    assert isinstance(probe, Admission)
    probe.failed()
    refused = await other
    assert isinstance(refused, Refused)
    assert 0 < refused.retry_after <= PROBE_EVERY
    assert opened.waiting == 0


@pytest.mark.anyio
async def test_nobody_waits_much_longer_than_a_second_for_a_probe_that_hangs(opened: UpstreamCircuit) -> None:
    probe = await opened.wait()
    assert isinstance(probe, Admission)
    began = time.monotonic()
    results = await asyncio.gather(*(opened.wait() for _ in range(3)))
    assert WAIT * 0.9 < time.monotonic() - began < WAIT + HEARD_WITHIN + 2
    assert sum(isinstance(result, Admission) for result in results) <= 1, "the next probe at most"
    assert opened.waiting == 0


@pytest.mark.anyio
async def test_a_probe_whose_client_left_hands_on_to_the_next_that_waits(opened: UpstreamCircuit) -> None:
    first = asyncio.create_task(opened.wait())
    await until(lambda: opened.waiting == 1)
    second = asyncio.create_task(opened.wait())
    probe = await first
    assert isinstance(probe, Admission)
    probe.abandoned()
    assert isinstance(await second, Admission)


@pytest.mark.anyio
async def test_who_leaves_while_it_waits_leaves_nothing_behind(opened: UpstreamCircuit) -> None:
    waiting = [asyncio.create_task(opened.wait()) for _ in range(3)]
    await until(lambda: opened.waiting == 3)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert opened.waiting == 0
    probe = await opened.wait()
    assert isinstance(probe, Admission)
    probe.succeeded()
    assert opened.state == "closed"


@pytest.mark.anyio
async def test_so_many_wait_at_most_and_whoever_comes_then_is_refused_at_once(opened: UpstreamCircuit) -> None:
    waiting = [asyncio.create_task(opened.wait()) for _ in range(MAX_WAITING)]
    await until(lambda: opened.waiting == MAX_WAITING)
    assert isinstance(await opened.wait(), Refused)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


# --- results that come late


@pytest.mark.parametrize("late", ["+", "-", "0"])
def test_calls_begun_before_it_opened_say_nothing_later(bench: Bench, late: str) -> None:
    open_, half_open, closed = ([bench.admitted() for _ in range(2 * MINIMUM)] for _ in range(3))
    bench.open()
    for admission in open_:
        report(admission, late)
    assert bench.state() == "open"
    bench.has_to_wait()
    probe = bench.probe()
    for admission in half_open:
        report(admission, late)
    assert bench.state() == "half-open"
    bench.has_to_wait()
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
        bench.clock.now += PROBE_EVERY / 10
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


def test_that_it_opens_and_closes_is_logged_and_each_state_is_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    monkeypatch.setattr(guard_file, "LOG", lines)
    bench.calls("+-" * (MINIMUM // 2))
    for _ in range(3):
        bench.probe().failed("laravel did not answer in time")
        bench.has_to_wait()
    bench.probe().succeeded()
    assert lines.kept == [
        (level, "upstream.circuit", {"name": "laravel", "state": state, "why": why})
        for level, state, why in [
            ("warning", "open", "10 of 20 calls failed: it broke off"),
            ("info", "closed", "a probe went well, 4 s after it opened"),
        ]
    ]
    states = ["closed", *("open", "half-open") * 4, "closed"]
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
    bench.probe().failed()
    probe = bench.probe()
    bench.has_to_wait()
    probe.succeeded()
    assert bench.state() == "closed"


@pytest.mark.usefixtures("time_zone")
def test_without_a_clock_it_goes_by_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_file, "PROBE_EVERY", 0.2)
    guard = UpstreamCircuit("laravel")
    for _ in range(MINIMUM):
        report(guard.admit(), "-")  # type: ignore[arg-type]
    assert guard.admit() is None
    time.sleep(0.21)
    assert isinstance(guard.admit(), Admission)


# --- whatever happens


class AnyLife(RuleBasedStateMachine):
    """A guard beside a model that keeps every result and every call under way."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(0.0)
        self.guard = UpstreamCircuit("laravel", self.clock)
        self.open = False
        self.results: list[tuple[float, bool]] = []
        self.next_probe = 0.0
        self.calls: list[Admission] = []
        self.probes: list[Admission] = []
        self.stale: list[Admission] = []

    @rule(quarters=st.integers(1, 16))
    def time_passes(self, quarters: int) -> None:
        self.clock.now += quarters / 4

    @rule()
    def a_little_time_passes(self) -> None:
        self.clock.now += 0.25

    @rule(calls=st.integers(1, 25))
    def calls_come(self, calls: int) -> None:
        admitted = [answer for answer in (self.guard.admit() for _ in range(calls)) if answer]
        if not self.open:
            assert len(admitted) == calls
            self.calls += admitted
            return
        due = self.clock.now >= self.next_probe and len(self.probes) < MAX_PROBES
        assert len(admitted) == int(due)
        if due:
            self.probes += admitted
            self.next_probe = self.clock.now + PROBE_EVERY

    @precondition(lambda self: self.calls)
    @rule(results=st.sampled_from(["+", "-", "0", "+-", "-+", "-+-0", "+-+"]), times=st.integers(1, 15))
    def calls_end(self, results: str, times: int) -> None:
        for result in results * times:
            if self.calls:
                self._call_ends(len(self.calls) // 2, result)

    @precondition(lambda self: not self.open)
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
            self.open, self.next_probe = True, self.clock.now + PROBE_EVERY
            self.stale += self.calls
            self.calls = []

    def _too_many_failed(self) -> bool:
        slot = self.clock.now // 1
        failed = [failed for at, failed in self.results if at // 1 > slot - WINDOW]
        return len(failed) >= MINIMUM and sum(failed) >= RATIO * len(failed)

    @precondition(lambda self: self.probes)
    @rule(result=st.sampled_from("+-0"))
    def a_probe_ends(self, result: str) -> None:
        probe = self.probes.pop(len(self.probes) // 2)
        report(probe, result)
        self.stale.append(probe)
        if result == "+":
            self.open, self.results = False, []
            self.stale += self.probes
            self.probes = []
        elif result == "0":
            self.next_probe = self.clock.now

    @precondition(lambda self: self.stale)
    @rule(result=st.sampled_from("+-0"))
    def what_no_longer_counts_is_reported(self, result: str) -> None:
        for call in self.stale:
            report(call, result)

    @invariant()
    def it_is_where_the_model_is(self) -> None:
        assert self.guard.state == ("half-open" if self.probes else "open" if self.open else "closed")


AnyLife.TestCase.settings = settings(deadline=None, stateful_step_count=80)
TestAnyLife = AnyLife.TestCase
