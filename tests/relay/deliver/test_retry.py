"""What becomes of a delivery, by what came of its attempt and by what is known of the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from relay.deliver.outcome import Delivered, Failed, NotSent, Outcome, Paused, Refused, Rejected
from relay.deliver.retry import RECENT, Evidence, others_got_through, settle, settle_batch
from relay.policies import Retry
from relay.queue.codec import NO_FAILURES, Delivery, Failures
from relay.queue.queue import Settlement

RETRY = Retry(attempts=12, base=1.0, cap=600.0)
NOW, FAILED_AT = 1100.0, 1090.0
NOBODY = Evidence(FAILED_AT - 1, NOW, 300.0)
"""Nobody has got through since the delivery failed before."""
SOMEBODY = Evidence(NOW - 1, NOW, 300.0)
FAILED_ONCE = Failures(0, FAILED_AT, 0.0, was_rejected=False)
REJECTED_ONCE = Failures(1, FAILED_AT, 0.0, was_rejected=True)
FAILED, REFUSED = Failed("answered 500", None, 500), Refused("answered 404", None, 404)
REJECTED, PAUSED = Rejected("answered 422", 422), Paused("answered 429", 3.0, 429)


def delivery(attempt: int = 2, failures: Failures = FAILED_ONCE) -> Delivery:
    return Delivery("e", "m", "s", b"/", (), b"", 1000.0, attempt, 0, b"ns", b"1", b"ns\x001", 0, b"", 0, failures)


@pytest.mark.parametrize(
    ("outcome", "before", "evidence", "disposition", "argument", "summary"),
    [
        (Delivered(200), FAILED_ONCE, NOBODY, "delivered", 0, "200 12 m"),
        (NotSent("an earlier one failed"), FAILED_ONCE, SOMEBODY, "return", 0, ""),
        (PAUSED, FAILED_ONCE, NOBODY, "unspent", 500, "429 12 answered 429"),
        (PAUSED, FAILED_ONCE, SOMEBODY, "unspent", 500, "429 12 answered 429"),
        (FAILED, FAILED_ONCE, SOMEBODY, "retry", 1000, "500 12 answered 500"),
        (FAILED, FAILED_ONCE, NOBODY, "unspent", 500, "500 12 answered 500"),
        (REFUSED, FAILED_ONCE, SOMEBODY, "retry", 1000, "404 12 answered 404"),
        (REFUSED, FAILED_ONCE, NOBODY, "unspent", 500, "404 12 answered 404"),
        (Failed("connection refused"), FAILED_ONCE, SOMEBODY, "retry", 1000, "- 12 connection refused"),
        (REJECTED, NO_FAILURES, SOMEBODY, "rejected", 500, "422 12 answered 422"),
        (REJECTED, FAILED_ONCE, SOMEBODY, "rejected", 500, "422 12 answered 422"),
        (REJECTED, REJECTED_ONCE, NOBODY, "rejected", 1000, "422 12 answered 422"),
        (REJECTED, REJECTED_ONCE, SOMEBODY, "dead", "answered 422", "422 12 answered 422"),
        (Rejected("422", 422, is_proven=True), NO_FAILURES, NOBODY, "dead", "422", "422 12 422"),
        (Rejected("cannot be sent", None), NO_FAILURES, NOBODY, "dead", "cannot be sent", "- 12 cannot be sent"),
    ],
)
def test_what_becomes_of_a_delivery(
    outcome: Outcome, before: Failures, evidence: Evidence, disposition: str, argument: object, summary: str
) -> None:
    settled = settle(delivery(2, before), outcome, RETRY, evidence, ms=12.3, chance=0.5)
    assert (settled.disposition, settled.argument, settled.summary) == (disposition, argument, summary)


@pytest.mark.parametrize("outcome", [FAILED, REFUSED])
def test_the_last_attempt_is_the_last_where_others_get_through(outcome: Failed | Refused) -> None:
    spent = settle(delivery(12), outcome, RETRY, SOMEBODY)
    assert (spent.disposition, spent.argument) == ("dead", f"{outcome.reason}; attempt 12 of 12")
    assert settle(delivery(12), outcome, RETRY, NOBODY).disposition == "unspent"


def test_a_first_failure_counts_where_the_endpoint_has_answered_a_while_ago() -> None:
    assert settle(delivery(1, NO_FAILURES), FAILED, RETRY, SOMEBODY).disposition == "retry"
    long_ago = Evidence(NOW - RECENT - 1, NOW, 300.0)
    assert settle(delivery(1, NO_FAILURES), FAILED, RETRY, long_ago).disposition == "unspent"


def test_a_first_failure_is_never_the_last_as_an_outage_may_have_begun() -> None:
    once = Retry(attempts=1, base=1.0, cap=600.0)
    assert settle(delivery(1, NO_FAILURES), FAILED, once, SOMEBODY).disposition == "retry"
    again = settle(delivery(2), FAILED, once, SOMEBODY)
    assert (again.disposition, again.argument) == ("dead", "answered 500; attempt 1 of 1")


def test_with_a_total_time_the_last_attempt_is_at_its_end_and_an_outage_does_not_count() -> None:
    retry = Retry(attempts=1000, base=100.0, cap=600.0, within=60.0)
    failing = Failures(0, FAILED_AT, 0.0, was_rejected=False)
    early = settle(delivery(2, failing), FAILED, retry, SOMEBODY, chance=0.9)
    assert (early.disposition, early.argument) == ("retry", 50_000)
    asked = settle(delivery(2, failing), Failed("answered 503", retry_after=90.0), retry, SOMEBODY, chance=0.9)
    assert (asked.disposition, asked.argument) == ("retry", 90_000)
    long = Failures(0, FAILED_AT, 55.0, was_rejected=False)
    over = settle(delivery(2, long), FAILED, retry, SOMEBODY, chance=0.9)
    assert (over.disposition, over.argument) == ("dead", "answered 500; attempt 2, its time to retry is over")
    assert settle(delivery(2, long), FAILED, retry, NOBODY).disposition == "unspent"


@pytest.mark.parametrize("asked", [999 * 86400.0, 11_574 * 86400.0])
@pytest.mark.parametrize("evidence", [NOBODY, SOMEBODY])
def test_what_a_receiver_asks_for_is_capped(asked: float, evidence: Evidence) -> None:
    for outcome in (Failed("answered 500", asked, 500), Refused("answered 401", asked, 401)):
        assert settle(delivery(), outcome, RETRY, evidence, chance=0.0).argument == 300_000
        endless = Evidence(evidence.ok_at, evidence.now, 10**9)
        assert settle(delivery(), outcome, RETRY, endless, chance=0.0).argument == 3600_000


@pytest.mark.parametrize("outcome", [FAILED, REFUSED, REJECTED, PAUSED])
def test_what_is_not_counted_waits_longer_each_time_too_up_to_half_a_minute(outcome: Outcome) -> None:
    waits = [
        settle(delivery(1, Failures(n, FAILED_AT, 0.0, False)), outcome, RETRY, NOBODY, chance=1.0).argument
        for n in (0, 1, 2, 4, 5, 500)
    ]
    assert waits == [1000, 2000, 4000, 16_000, 30_000, 30_000]


def test_what_failed_together_comes_again_together() -> None:
    settled = settle_batch([delivery()] * 50, [Failed("answered 500")] * 50, RETRY, SOMEBODY)
    assert len({result.argument for result in settled}) == 1


def test_each_of_a_batch_has_its_own_end() -> None:
    outcomes: list[Outcome] = [Rejected("answered 422", 422, is_proven=True), Delivered(200)]
    settled = settle_batch([delivery()] * 2, outcomes, RETRY, SOMEBODY)
    assert [result.disposition for result in settled] == ["dead", "delivered"]


# --- over a whole life, as the store keeps it (`note_failure` in `lua/poll.lua`)


@dataclass
class Life:
    """Of a delivery whose attempts all fail; `ok_at`: when somebody else got through last."""

    failed: int = 0
    failures: Failures = NO_FAILURES
    dispositions: list[str] = field(default_factory=list)

    def fail(self, outcome: Outcome, ok_at: float, now: float) -> Settlement:
        settled = settle(
            delivery(self.failed + 1, self.failures), outcome, Retry(12, within=3600.0), Evidence(ok_at, now, 300.0)
        )
        self.dispositions.append(settled.disposition)
        before = self.failures
        if settled.disposition == "retry":
            self.failed += 1
            for_s = before.for_s + (now - before.at if before.at else 0.0)
            self.failures = Failures(0, now, for_s, was_rejected=False)
        else:
            self.failures = Failures(before.unspent + 1, now, before.for_s, settled.disposition == "rejected")
        return settled


FAILING: st.SearchStrategy[Outcome] = st.sampled_from([FAILED, REFUSED, REJECTED, PAUSED])


@given(st.lists(st.tuples(FAILING, st.floats(0.1, 7200.0)), max_size=200), st.booleans())
def test_an_outage_of_any_length_buries_nothing_and_spends_at_most_one_attempt(
    attempts: list[tuple[Outcome, float]], was_well: bool
) -> None:
    life, now = Life(), 1000.0
    ok_at = now if was_well else 0.0
    for outcome, later in attempts:
        now += later
        life.fail(outcome, ok_at, now)
    assert "dead" not in life.dispositions
    assert life.failed <= 1


@given(st.lists(st.sampled_from([FAILED, REFUSED]), min_size=20, max_size=20))
def test_one_that_fails_on_its_own_is_dead_after_all_its_attempts_and_not_before(attempts: list[Outcome]) -> None:
    life, now = Life(), 1000.0
    for outcome in attempts:
        now += 20.0
        if life.fail(outcome, now - 0.1, now).disposition == "dead":
            break
    assert life.dispositions == ["retry"] * 11 + ["dead"]


@given(st.floats(1.0, 1e9), st.floats(1.0, 1e9), st.floats(0.0, 1e6))
def test_others_got_through_only_after_the_failure_before(failed_at: float, ok_at: float, later: float) -> None:
    assert others_got_through(failed_at, ok_at, failed_at + later) == (ok_at > failed_at)
