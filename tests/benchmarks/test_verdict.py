"""What a load test is failed for."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from latency import Histogram
from oracle import Oracle, Subject
from policies import Limit, Numbers, Policies
from run import Run
from verdict import verdict

HERE = ip_address("127.0.0.1")
SUBJECT = Subject(HERE, session="s")


def test_a_run_in_which_all_is_right_passes() -> None:
    run = _run()
    _pass(run)
    assert (verdict(run, 1.0).code, verdict(run, 1.0).failures) == (0, ())
    assert str(verdict(run, 1.0)).endswith("PASSED\n")


def test_over_admission_fails() -> None:
    run = _run()
    for _ in range(12):
        _pass(run)
    assert verdict(run, 1.0).failures == ("2 over-admitted, none allowed",)
    assert "over-admission: limit one, session s: 12 passed in 0.000 s, at most 10.00" in str(verdict(run, 1.0))


@pytest.mark.parametrize(("right", "fails"), [(998, True), (999, False)])
def test_wrong_refusals_fail_when_they_are_more_than_one_in_a_thousand(right: int, fails: bool) -> None:
    run = _run()
    for _ in range(9):
        _pass(run)
    run.oracle.answered(run.oracle.sent(SUBJECT, None, 0.0), "refused", 0.0, ["one"])
    _pass(run)
    for _ in range(right):
        run.oracle.answered(run.oracle.sent(SUBJECT, None, 0.0), "refused", 0.0, ["one"])
    assert run.oracle.findings.wrongly_refused == 1
    assert (verdict(run, 1.0).code == 1) == fails


def test_any_5xx_fails() -> None:
    run = _run()
    _pass(run)
    run.counts.failed.update({503: 3, 500: 1})
    assert verdict(run, 1.0).failures == ("4 answers 5xx, none allowed (1 times 500, 3 times 503)",)


def test_any_missing_answer_fails() -> None:
    run = _run()
    _pass(run)
    run.counts.unanswered = 2
    assert verdict(run, 1.0).failures == ("2 requests without an answer, none allowed",)


def test_a_run_in_which_nothing_passed_tests_nothing() -> None:
    assert verdict(_run(), 1.0).failures == ("nothing passed, so nothing was tested",)


def test_a_slow_95th_percentile_fails() -> None:
    run = _run()
    _pass(run)
    for _ in range(100):
        run.counts.since_due.add(0.5)
    assert verdict(run, 1.0).code == 0
    assert verdict(run, 0.3).failures == ("p95 500 ms since due, at most 300 ms allowed (--p95)",)


def test_limits_that_are_not_judged_are_named_with_the_reason() -> None:
    limits = (Limit("one"), Limit("two", over="queue"), Limit("three", unclear="the oracle does not know colour"))
    said = str(verdict(_run(*limits), 1.0))
    assert "held to what may pass: one\n" in said
    assert "let more pass, as they say (queue, observe, enforce): two\n" in said
    assert "not judged: three, the oracle does not know colour\n" in said


def test_latencies_are_told_within_two_percent() -> None:
    times = Histogram()
    for number in range(1, 10_001):
        times.add(number / 1000)
    assert times.at(0.5) == pytest.approx(5.0, rel=0.02)
    assert times.at(0.99) == pytest.approx(9.9, rel=0.02)
    assert times.at(1.0) == times.longest == 10.0
    assert Histogram().at(0.95) == 0.0


def _run(*limits: Limit) -> Run:
    limits = limits or (Limit("one", per=("session",), numbers=Numbers(0.001, 10)),)
    policies = Policies(limits, ())
    return Run(policies, Oracle(limits), b"secret", pace=1.0, send_to=(), attack_from=None)


def _pass(run: Run) -> None:
    run.oracle.answered(run.oracle.sent(SUBJECT, None, 0.0), "passed", 0.0)
