"""`hours` of a limit, by the clocks of its time zone."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from gateway.policies.hours import Hours

JAKARTA = Hours(8 * 60, 20 * 60, "Asia/Jakarta")
NIGHT = Hours(22 * 60, 6 * 60, "Asia/Jakarta")


def at(text: str, zone: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("hours", "moment", "seconds"),
    [
        (JAKARTA, "2026-11-30T08:00", 0),
        (JAKARTA, "2026-11-30T19:59:59", 0),
        (JAKARTA, "2026-11-30T20:00", 12 * 3600),
        (JAKARTA, "2026-11-30T07:59:30", 30),
        (JAKARTA, "2026-12-31T23:00", 9 * 3600),
        (NIGHT, "2026-11-30T23:00", 0),
        (NIGHT, "2026-11-30T05:59", 0),
        (NIGHT, "2026-11-30T06:00", 16 * 3600),
        (Hours(8 * 60, 24 * 60, "Asia/Jakarta"), "2026-11-30T23:59:59", 0),
        (Hours(8 * 60, 24 * 60, "Asia/Jakarta"), "2026-11-30T00:00", 8 * 3600),
    ],
)
def test_sends_go_within_the_hours(hours: Hours, moment: str, seconds: float) -> None:
    assert hours.opens_in(at(moment, hours.zone)) == seconds


def test_a_day_on_which_clocks_are_set_forward_has_an_hour_less() -> None:
    hours = Hours(8 * 60, 20 * 60, "Europe/Berlin")
    assert hours.opens_in(at("2026-03-28T20:00", hours.zone)) == 11 * 3600
    assert hours.opens_in(at("2026-10-24T20:00", hours.zone)) == 13 * 3600


def test_what_begins_in_the_hour_that_is_left_out_begins_after_it() -> None:
    hours = Hours(2 * 60 + 30, 5 * 60, "Europe/Berlin")
    assert hours.opens_in(at("2026-03-29T03:00", hours.zone)) == 0
    assert 0 < hours.opens_in(at("2026-03-29T01:59", hours.zone)) <= 31 * 60


def test_of_an_hour_that_comes_twice_both_count() -> None:
    hours = Hours(2 * 60, 3 * 60, "Europe/Berlin")
    assert [hours.opens_in(at("2026-10-25T02:30", hours.zone, fold)) for fold in (0, 1)] == [0, 0]


@given(
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sampled_from(["UTC", "Asia/Jakarta", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"]),
    st.integers(1_704_067_200, 1_830_297_600),
)
def test_what_waits_for_its_hours_may_go_then_and_waits_two_days_at_most(
    begin: int, end: int, zone: str, now: int
) -> None:
    hours = Hours(begin, end if end != begin else begin % 1440 + 1, zone)
    wait = hours.opens_in(now)
    assert 0 <= wait <= timedelta(days=2).total_seconds()
    assert (
        hours.opens_in(now + wait) == 0 or hours.end <= hours.begin + 61
    )  # the hour that is left out may be all of it
