"""The numbers of the field: 30 minutes at a QR code, a day without a connection."""

from __future__ import annotations

import pytest

from sessions.lifecycle.stale import StaleAfter, spell


@pytest.mark.parametrize(
    ("state", "seconds", "why"),
    [
        ("qr_scanning", 1799, None),
        ("qr_scanning", 1800, "qr_scanning for 30m"),
        ("qr_scanning", 4 * 86400 + 5, "qr_scanning for 4d"),
        ("disconnected", 86399, None),
        ("disconnected", 86400, "disconnected for 1d"),
        ("failed", 90_000, "failed for 1d"),
        ("connected", 10**9, None),
        ("a word of nobody", 10**9, None),
        ("failed", None, None),
    ],
)
def test_a_session_is_stale_after_its_time_and_a_connected_one_never(
    state: str, seconds: float | None, why: str
) -> None:
    assert StaleAfter().why(state, seconds) == why


def test_times_are_rounded_down() -> None:
    assert [spell(seconds) for seconds in (59, 60, 3599, 3600, 86399, 86400)] == ["0m", "1m", "59m", "1h", "23h", "1d"]
