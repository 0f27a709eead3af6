from __future__ import annotations

from relay.inflow import Inflow


def test_it_is_not_known_before_a_minute() -> None:
    inflow = Inflow()
    assert inflow.per_second is None
    inflow.note(0.0, 100)
    inflow.note(59.0, 200)
    assert inflow.per_second is None
    inflow.note(60.0, 220)
    assert inflow.per_second == 2.0


def test_only_the_last_five_minutes_count() -> None:
    inflow = Inflow()
    inflow.note(0.0, 0)
    for moment in range(10, 700, 10):
        inflow.note(float(moment), 1000 + moment)
    assert inflow.per_second == 1.0


def test_another_store_begins_anew() -> None:
    inflow = Inflow()
    inflow.note(0.0, 1000)
    inflow.note(100.0, 5)
    assert inflow.per_second is None
    inflow.note(200.0, 105)
    assert inflow.per_second == 1.0
