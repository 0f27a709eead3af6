"""An exact bucket is never accused, whatever the latencies, and one that is not exact is, before long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings, strategies as st
from ledger import Ledger


@dataclass
class Exact:
    """A server's bucket: exact, and told when it decides."""

    rate: float
    burst: float
    level: float
    at: float = 0.0

    def take(self, now: float, cost: float = 1.0) -> bool:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < cost - 1e-9:
            return False
        self.level -= cost
        return True


@dataclass(frozen=True)
class Request:
    sent: float
    decided: float
    answered: float
    cost: float
    lost: bool


def _requests() -> st.SearchStrategy[list[Request]]:
    """At any time, with any latency before and after the decision; some lose their answer."""
    times = st.floats(0, 20, allow_nan=False)
    latency = st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 3))
    one = st.tuples(times, latency, latency, st.sampled_from([1.0, 1.0, 1.0, 2.0, 3.0]), st.integers(0, 9))
    return st.lists(one, min_size=1, max_size=120).map(
        lambda rows: [Request(at, at + a, at + a + b, cost, chance == 0) for at, a, b, cost, chance in rows]
    )


def _play(requests: list[Request], ledger: Ledger, take: Callable[[float, float], bool]) -> list[str]:
    """What happens in the order of time; what the ledger accused the bucket of."""
    steps = sorted(
        [(request.sent, 0, i) for i, request in enumerate(requests)]
        + [(request.decided, 1, i) for i, request in enumerate(requests)]
        + [(request.answered, 2, i) for i, request in enumerate(requests)]
    )
    flights, passed, accused = {}, {}, []
    for now, step, i in steps:
        request = requests[i]
        if step == 0:
            flights[i] = ledger.send(now, request.cost)
        elif step == 1:
            passed[i] = take(now, request.cost)
        elif request.lost:
            ledger.unanswered(flights[i], now)
        elif passed[i]:
            accused += [f"over: {excess}"] if (excess := ledger.passed(flights[i], now)) else []
        elif ledger.refused(flights[i]):
            accused.append(f"wrong refusal at {now}")
    return accused


@settings(max_examples=500, deadline=None)
@given(
    _requests(),
    st.floats(0.05, 50),
    st.integers(1, 30),
    st.booleans(),
    st.floats(0, 1),
)
def test_an_exact_bucket_is_never_accused(
    requests: list[Request], rate: float, burst: int, full: bool, filled: float
) -> None:
    bucket = Exact(rate, burst, burst if full else burst * filled)
    assert not _play(requests, Ledger(rate, burst, 0.0, full=full), bucket.take)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.5, 15), st.integers(1, 10), st.floats(0, 0.02))
def test_a_bucket_that_lets_one_more_pass_is_accused(rate: float, burst: int, latency: float) -> None:
    requests = [Request(n * 0.05, n * 0.05 + latency / 2, n * 0.05 + latency, 1.0, False) for n in range(600)]
    wrong = Exact(rate, burst + 1 + rate * latency, burst + 1 + rate * latency)  # beyond what latency can hide
    accused = _play(requests, Ledger(rate, burst, 0.0, full=True), wrong.take)
    assert any(text.startswith("over") for text in accused)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.5, 10), st.integers(2, 10), st.floats(0, 0.02))
def test_a_bucket_that_refuses_too_early_is_accused(rate: float, burst: int, latency: float) -> None:
    requests = [Request(n * 0.05, n * 0.05 + latency / 2, n * 0.05 + latency, 1.0, False) for n in range(200)]
    wrong = Exact(rate, burst - 1, burst - 1)
    accused = _play(requests, Ledger(rate, burst, 0.0, full=True), wrong.take)
    assert any(text.startswith("wrong refusal") for text in accused)


def test_a_bucket_that_refills_too_fast_is_accused() -> None:
    requests = [Request(n * 0.1, n * 0.1, n * 0.1 + 0.01, 1.0, False) for n in range(300)]
    assert _play(requests, Ledger(2.0, 5, 0.0, full=True), Exact(2.2, 5, 5).take)


def test_an_excess_is_said_once_for_each_token() -> None:
    ledger = Ledger(1.0, 2, 0.0, full=True)
    found = [str(excess) for _ in range(4) if (excess := ledger.passed(ledger.send(0.0, 1), 0.0))]
    assert found == ["3 passed in 0.000 s, at most 2.00", "4 passed in 0.000 s, at most 2.00"]
    assert ledger.over == 2


def test_what_is_under_way_may_have_taken_the_token() -> None:
    ledger = Ledger(0.001, 1, 0.0, full=True)
    ledger.send(1.0, 1)
    assert not ledger.refused(ledger.send(1.0, 1))


def test_a_request_without_an_answer_may_have_taken_a_token_for_a_while() -> None:
    ledger = Ledger(1.0, 1, 0.0, full=True)
    ledger.unanswered(ledger.send(1.0, 1), 1.5)
    assert not ledger.refused(ledger.send(5.0, 1))
    assert ledger.refused(ledger.send(8.0, 1))
