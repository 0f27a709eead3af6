from __future__ import annotations

from typing import Any

import pytest

from sessions.worker.browser.facts import UPDATE, Facts, Status, ended_by, facts_of, status_of

HERE: dict[str, Any] = {"mode": "MAIN", "info": "NORMAL", "authenticated": True, "registered": True, "phone": "49"}


def status(**other: Any) -> Status | None:
    return status_of(facts_of({**HERE, **other}))


def test_connected_is_a_stream_that_is_main_and_registered_and_has_a_phone() -> None:
    assert status() == Status("connected")
    assert status(registered=False) != Status("connected")
    assert status(phone=None) != Status("connected")
    assert status(mode="QR", registered=False, authenticated=False, phone=None) == Status("qr_scanning")


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"mode": "SYNCING"}, Status("authenticated")),
        ({"mode": "", "registered": False}, Status("authenticated")),
        ({"mode": "", "authenticated": False, "registered": False}, None),
        ({"registered": False}, Status("authenticated")),
        ({"registered": False, "authenticated": False}, None),
        ({"phone": None}, Status("authenticated")),
        ({"info": "OFFLINE"}, Status("disconnected", "the page is offline")),
        ({"info": "OPENING"}, Status("disconnected", "the page is opening")),
        ({"info": "SYNCING"}, Status("connected")),
        ({"mode": "OFFLINE"}, Status("disconnected", "the page has no connection to WhatsApp")),
        ({"mode": "DEPRECATED_VERSION"}, Status("failed", UPDATE)),
        ({"outdated": True}, Status("failed", UPDATE)),
    ],
)
def test_what_the_page_says_is_a_state(other: dict[str, Any], expected: Status | None) -> None:
    assert status(**other) == expected


@pytest.mark.parametrize("mode", ["CONFLICT", "PROXYBLOCK", "TOS_BLOCK", "SMB_TOS_BLOCK"])
def test_what_blocks_a_login_is_no_log_out(mode: str) -> None:
    found = status(mode=mode)
    assert found is not None
    assert found.state == "failed"
    assert found.reason


@pytest.mark.parametrize("phone", ["", "49 1", "49@c.us", 49, None, "٤٩"])
def test_a_phone_is_digits(phone: object) -> None:
    assert facts_of({**HERE, "phone": phone}).phone is None


def test_what_a_page_makes_up_is_bounded() -> None:
    assert facts_of({"mode": "M" * 10_000, "registered": "yes", "version": ["x"]}) == Facts(mode="M" * 200)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("unknown_companion", "its phone has ended it"),
        ("account_locked", "WhatsApp has locked or banned this number: its phone says which, and what to do"),
        ("client_version_outdated", UPDATE),
        (
            "storage_quota_exceeded",
            "the browser could not write its profile: free some space on the disk of this machine, then scan its code "
            "again",
        ),
        ("syncd_failure", "WhatsApp has ended it (syncd_failure)"),
        ("", "WhatsApp has ended it (no reason given)"),
    ],
)
def test_why_a_login_has_ended_is_said_in_words(reason: str, said: str) -> None:
    assert ended_by(reason) == said
