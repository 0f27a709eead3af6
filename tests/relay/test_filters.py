from __future__ import annotations

import pytest

from relay.filters import takes


@pytest.mark.parametrize(
    ("patterns", "event_type", "taken"),
    [
        ((), "message_received", True),
        (("message_*",), "message_received", True),
        (("message_*",), "Message_received", False),
        (("session_ready", "message_received"), "message_received", True),
        (("message",), "message_received", False),
        (("*_received",), "message_received", True),
        (("*",), "", True),
        (("message_*",), "", False),
    ],
)
def test_an_endpoint_takes_what_its_patterns_name(patterns: tuple[str, ...], event_type: str, taken: bool) -> None:
    assert takes(patterns, event_type) is taken
