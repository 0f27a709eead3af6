"""What the proxy's benchmark makes of its slices."""

from __future__ import annotations

import pytest
from proxy.report import Saturated, quartiles, ratios
from proxy.rounds import there_and_back


def _row(peer: str, number: int, cpu_us: float) -> Saturated:
    return Saturated(peer, False, number, 32, 64, 0, cpu_us, None, 1000.0, 1.0)


def test_ratios_are_within_a_round() -> None:
    rows = [_row("a", 1, 20), _row("b", 1, 10), _row("b", 2, 40), _row("a", 2, 60), _row("a", 3, 7)]
    assert ratios(rows, "a", "b") == [2.0, 1.5]
    assert ratios(rows, "a", "nobody") == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [([2.0], (2.0, 2.0, 2.0)), ([5.0, 1.0, 3.0, 2.0, 4.0], (2.0, 3.0, 4.0)), ([1.0, 2.0], (1.25, 1.5, 1.75))],
)
def test_quartiles(values: list[float], expected: tuple[float, float, float]) -> None:
    assert quartiles(values) == expected


def test_the_load_goes_there_and_back() -> None:
    way = [f"{number}{item}" for number, item in there_and_back("ABC", 3)]
    assert way == ["1A", "1B", "1C", "2C", "2B", "2A", "3A", "3B", "3C"]
