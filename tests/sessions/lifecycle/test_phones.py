"""Of several sessions with one phone, who is connected stays, and nobody is removed without one that stays."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sessions.lifecycle.phones import Keep, OfPhone, digits, superseded

STATES = ["qr_scanning", "connected", "disconnected", "failed"]
SESSIONS = st.lists(
    st.builds(
        OfPhone,
        session=st.uuids().map(str),
        workspace=st.sampled_from(["1", "2"]),
        phone=st.sampled_from(["", "49", "62"]),
        state=st.sampled_from(STATES),
        since=st.sampled_from([0.0, 1.0, 2.0]),
        order=st.integers(0, 3),
    ),
    max_size=12,
)


def three(*states: str) -> list[OfPhone]:
    return [OfPhone(f"s{at}", "1", "49", state, float(at)) for at, state in enumerate(states)]


@pytest.mark.parametrize("keep", ["newest", "oldest", "allow"])
def test_the_only_connected_one_stays_in_place_of_all_others(keep: Keep) -> None:
    assert superseded(three("qr_scanning", "disconnected", "connected"), keep) == {"s0": "s2", "s1": "s2"}
    assert superseded(three("connected", "disconnected", "qr_scanning"), keep) == {"s1": "s0", "s2": "s0"}


def test_of_two_that_are_connected_the_newest_or_the_oldest_stays_or_both() -> None:
    two = three("connected", "connected")
    assert superseded(two, "newest") == {"s0": "s1"}
    assert superseded(two, "oldest") == {"s1": "s0"}
    assert superseded(two, "allow") == {}


def test_another_workspace_or_phone_or_none_is_compared_with_nobody() -> None:
    alone = [OfPhone("a", "1", "49", "connected", 0), OfPhone("b", "2", "49", "connected", 0)]
    alone += [
        OfPhone("c", "1", "62", "connected", 0),
        OfPhone("d", "1", "", "failed", 0),
        OfPhone("e", "1", "", "failed", 0),
    ]
    assert superseded(alone, "newest") == {}


@given(SESSIONS, st.sampled_from(["newest", "oldest", "allow"]))
def test_who_stays_is_never_removed_and_nobody_connected_yields_to_one_that_is_not(
    sessions: list[OfPhone], keep: Keep
) -> None:
    by_name = {one.session: one for one in sessions}
    found = superseded(sessions, keep)
    for session, stays in found.items():
        removed, kept = by_name[session], by_name[stays]
        assert stays not in found
        assert (removed.workspace, removed.phone) == (kept.workspace, kept.phone)
        assert removed.state != "connected" or kept.state == "connected"
    if keep != "allow":
        left = [(one.workspace, one.phone) for one in sessions if one.session not in found and one.phone]
        assert len(left) == len(set(left))


@pytest.mark.parametrize("text", ["+49 151-2345", "491512345@c.us", "491512345:12@s.whatsapp.net", "491512345"])
def test_a_phone_is_its_digits(text: str) -> None:
    assert digits(text) == "491512345"
