from __future__ import annotations

import time
from typing import Any

import pytest

from sessions.worker import events

HI = {"id": "false_49@c.us_1", "chat": "49@c.us", "from": "49@c.us", "to": "62@c.us", "body": "hi", "timestamp": 1700}


def message(**other: Any) -> tuple[str, dict[str, Any]]:
    found = events.message({**HI, **other})
    assert found is not None
    return found[0], found[1]["message"]


def test_a_message_has_the_fields_of_the_contract() -> None:
    assert message() == (
        "message_received",
        {
            "id": "false_49@c.us_1",
            "from": "49@c.us",
            "to": "62@c.us",
            "body": "hi",
            "timestamp": 1700,
            "from_me": False,
            "type": "chat",
            "has_media": False,
            "chat_type": "private",
        },
    )


def test_one_of_a_group_says_who_wrote_it() -> None:
    name, content = message(chat="1-2@g.us", author="49@c.us", name="Ann")
    assert name == "message_received"
    group = {"chat_type": "group", "group_id": "1-2@g.us", "sender_phone": "49", "sender_name": "Ann"}
    assert {**content, **group} == content


def test_media_go_along_and_their_caption_is_the_text() -> None:
    picture = {"data": "aGk=", "mimetype": "image/png", "filename": "a.png"}
    found = events.message({**HI, "type": "image", "body": "", "caption": "look"}, picture)
    assert found is not None
    content = found[1]["message"]
    assert (content["body"], content["has_media"], content["media"]) == ("look", True, picture)


def test_our_own_one_was_sent() -> None:
    name, content = message(from_me=True, ack=1)
    assert (name, content["from_me"], content["status"]) == ("message_sent", True, "sent")


@pytest.mark.parametrize("chat", ["status@broadcast", "1@newsletter", "", None, 7])
def test_what_laravel_does_not_take_is_nothing(chat: object) -> None:
    assert events.message({**HI, "chat": chat}) is None


@pytest.mark.parametrize("timestamp", [None, "now", float("nan"), 1e300, True])
def test_a_time_that_is_none_is_now(timestamp: object) -> None:
    assert abs(message(timestamp=timestamp)[1]["timestamp"] - time.time()) < 60


@pytest.mark.parametrize(
    ("ack", "status", "level"),
    [
        *((ack, "failed", 0) for ack in range(-7, 0)),
        *((0, "pending", 1), (1, "sent", 2)),
        *((2, "delivered", 3), (3, "read", 4), (4, "played", 5)),
    ],
)
def test_a_receipt_has_the_level_that_the_contract_counts(ack: int, status: str, level: int) -> None:
    """It counts from 1 where WhatsApp counts from 0."""
    told = events.acknowledged("msg-1", ack)
    assert told is not None
    name, data = told
    assert name == "message_status_updated"
    assert (data["message_id"], data["status"], data["ack_level"]) == ("msg-1", status, level)


def test_that_another_device_of_the_sender_has_it_is_no_receipt_and_no_failure() -> None:
    """WhatsApp's PEER."""
    assert events.acknowledged("msg-1", 5) is None
    assert message(from_me=True, ack=5)[1]["status"] == "sent"


@pytest.mark.parametrize(("state", "typing"), [("composing", True), ("recording", True), ("paused", False)])
def test_who_types_is_told_with_the_state_of_the_chat(state: str, typing: bool) -> None:
    (one, data), (other, chat) = events.presence({"chat": "49@c.us", "state": state})
    assert (one, data) == ("typing_indicator", {"contact_id": "49@c.us", "is_typing": typing, "chat_id": "49@c.us"})
    assert (other, chat["chat_state"]) == ("chat_state_updated", state)


def test_who_is_online_does_not_type() -> None:
    assert [name for name, _ in events.presence({"chat": "49@c.us", "state": "unavailable"})] == ["chat_state_updated"]
    assert events.presence({"state": "composing"}) == []


@pytest.mark.parametrize(
    ("session", "workspace"), [("webjs_7_1700000000_ab", 7), ("wa_x_1", None), (f"webjs_{'9' * 30}_1_a", None)]
)
def test_the_workspace_is_that_of_the_name(session: str, workspace: int | None) -> None:
    assert events.workspace_of(session) == workspace
