from __future__ import annotations

from hypothesis import given, strategies as st

from relay.deliver.backoff import delay


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 0.999))
def test_the_wait_is_between_nothing_and_the_cap(attempt: int, chance: float) -> None:
    assert 0 <= delay(attempt, 1.0, 600.0, chance=chance) <= 600.0


def test_the_ceiling_doubles_with_each_attempt() -> None:
    assert [delay(n, 1.0, 600.0, chance=1.0) for n in (1, 2, 3, 10, 11)] == [1, 2, 4, 512, 600]


def test_retry_after_is_a_floor() -> None:
    assert delay(1, 1.0, 600.0, retry_after=30.0, chance=0.5) == 30.0
    assert delay(10, 1.0, 600.0, retry_after=30.0, chance=1.0) == 512.0


def test_retry_after_is_believed_for_an_hour_at_most() -> None:
    assert delay(1, 1.0, 600.0, retry_after=10**9, chance=0.0) == 3600.0
