"""Which keys are read together, which before and which after; and that none is forgotten."""

from __future__ import annotations

import pytest

from relay.queue import layout
from sluice.backup.groups import FIXED, LEFT_OUT, PARTITIONS, Groups, family, is_hash
from tests.test_store_keys import documented

NAMES = {"<nn>": "00", "<slot>": "00", "<subjects>": "\0s1"}


def example(pattern: str) -> bytes:
    """A key of this form; its own fixed words stay."""
    for placeholder, value in NAMES.items():
        pattern = pattern.replace(placeholder, value)
    return pattern.replace("<", "").replace(">", "").encode()


def where(name: bytes) -> str:
    groups = Groups([name])
    if name in groups.vault:
        return "vault"
    if name in groups.before:
        return "before"
    if name in groups.after:
        return "after"
    return next((tag for tag in (*FIXED, *PARTITIONS) if name in groups.whole(tag, ["endpoint"])), "nowhere")


@pytest.mark.parametrize("pattern", [row.pattern for row in documented() if not row.is_channel])
def test_each_key_of_the_documentation_is_read_once_or_left_out(pattern: str) -> None:
    name = example(pattern)
    assert (where(name) == "nowhere") == (name.decode() in LEFT_OUT)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (b"sl:{00}:laravel:newest:0a1b", "before"),  # what it names may come later, and is not taken for older then
        (b"sl:{passed:s1}:until", "before"),  # what it says was passed on is among the events, or was delivered
        (b"sl:{l}:send\x00s1", "before"),
        (b"sl:{laravel}:circuit", "before"),
        (b"sl:later-releases", "before"),
        (b"sl:{vault:s1}:chunks", "vault"),
        (b"sl:{vault}:profiles", "vault"),
        (b"sl:{00}:laravel:queue", "00"),
        (b"sl:clock:{00}", "00"),
        (b"sl:{sessions}:records", "sessions"),
        (b"sl:{out:03}:evt_1", "after"),
        (b"sl:{receipts:03}:ids:s1", "after"),
        (b"sl:{send:03}:0a1b", "after"),
        (b"sl:{sent:s1}:true_1", "after"),
        (b"sl:{gateways}", "nowhere"),
        (b"sl:relays", "nowhere"),
        (b"sl:restoring", "nowhere"),
    ],
)
def test_a_key_has_its_place_in_the_order(name: bytes, place: str) -> None:
    assert where(name) == place


def test_what_appears_between_the_scan_and_the_moment_is_read_too() -> None:
    nothing = Groups([])
    assert b"sl:{sessions}:notices" in nothing.whole("sessions")
    in_partition = set(nothing.whole("02", ["laravel", "audit"]))
    assert {key.encode() for key in layout.keys("laravel", 2)} <= in_partition
    assert {key.encode() for key in layout.own_keys("audit", 2)} <= in_partition


def test_the_registry_is_read_before_the_events() -> None:
    assert "sessions" in FIXED
    assert set(PARTITIONS) & set(FIXED) == set()


def test_only_what_never_changes_is_read_in_pages() -> None:
    assert [name for name in layout.keys("laravel", 0) if is_hash(name.encode())] == [
        "sl:{00}:events",
        "sl:{00}:laravel:bodies",
    ]


@pytest.mark.parametrize("pattern", [row.pattern for row in documented() if not row.is_channel])
def test_each_family_has_a_name(pattern: str) -> None:
    others = {"sl:clock_jump", "sl:{layout}", "sl:restoring", "sl:endpoints-searched", "sl:relays", "sl:{gateways}"}
    assert (family(example(pattern)) == "others") == (pattern in others)
