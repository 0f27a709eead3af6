from __future__ import annotations

import pytest

from relay.deliver.outcome import Delivered, Failed, Outcome, Paused, Rejected
from relay.deliver.retry import settle, settle_batch
from relay.policies import Retry
from relay.queue.codec import Delivery

DELIVERY = Delivery("evt", "message", "s", b"/", (), b"", 1000.0, 2, 0, b"ns", b"1", b"ns\x001")
RETRY = Retry(attempts=12, base=1.0, cap=600.0)


@pytest.mark.parametrize(
    ("outcome", "disposition", "argument", "summary"),
    [
        (Delivered(200), "delivered", 0, "200 12"),
        (Rejected("answered 422", 422), "dead", "answered 422", "422 12 answered 422"),
        (Paused("answered 429", 3.0, 429), "return", 500, "429 12 answered 429"),
        (Failed("answered 500", None, 500), "retry", 1000, "500 12 answered 500"),
        (Failed("answered 503", 9.0, 503), "retry", 9000, "503 12 answered 503"),
        (Failed("connection refused"), "retry", 1000, "- 12 connection refused"),
    ],
)
def test_what_becomes_of_a_delivery(outcome: Outcome, disposition: str, argument: object, summary: str) -> None:
    settled = settle(DELIVERY, outcome, RETRY, ms=12.3, chance=0.5)
    assert (settled.disposition, settled.argument, settled.summary) == (disposition, argument, summary)


def test_the_last_attempt_is_the_last() -> None:
    settled = settle(DELIVERY, Failed("answered 500"), Retry(attempts=2, base=1.0, cap=600.0))
    assert (settled.disposition, settled.argument) == ("dead", "answered 500; attempt 2 of 2")


def test_with_a_total_time_the_last_attempt_is_at_its_end() -> None:
    retry = Retry(attempts=1000, base=100.0, cap=600.0, within=60.0)
    early = settle(DELIVERY, Failed("answered 500"), retry, chance=0.9, now=1010.0)
    assert (early.disposition, early.argument) == ("retry", 50_000)
    asked = settle(DELIVERY, Failed("answered 503", retry_after=90.0), retry, chance=0.9, now=1010.0)
    assert (asked.disposition, asked.argument) == ("retry", 90_000)
    over = settle(DELIVERY, Failed("answered 500"), retry, chance=0.9, now=1060.0)
    assert (over.disposition, over.argument) == ("dead", "answered 500; attempt 2, its time to retry is over")


def test_what_failed_together_comes_again_together() -> None:
    settled = settle_batch([DELIVERY] * 50, [Failed("answered 500")] * 50, RETRY)
    assert len({result.argument for result in settled}) == 1


def test_each_of_a_batch_has_its_own_end() -> None:
    settled = settle_batch([DELIVERY] * 2, [Rejected("answered 422", 422), Delivered(200)], RETRY)
    assert [result.disposition for result in settled] == ["dead", "delivered"]
