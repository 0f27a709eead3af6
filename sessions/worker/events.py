"""What a page tells, in the names and shapes of the contract between workers and Laravel. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

Event = tuple[str, dict[str, Any]]
"""Its name, and its data without the two ids of session and workspace."""
STATUS = {0: "pending", 1: "sent", 2: "delivered", 3: "read", 4: "played"}
"""By WhatsApp's own level of acknowledgement; those below 0 are failures, and 5 (PEER) says that a
device of the sender's own has it, which is nothing that its recipient did."""
FAILED = "failed"
_WORKSPACE = re.compile(r"webjs_(\d{1,18})_.*")
_GROUP, _NEWSLETTER, _STATUS = "@g.us", "@newsletter", "status@broadcast"
_TYPING = {"composing": True, "typing": True, "recording": True, "paused": False, "available": False}
_MEDIA = frozenset({"image", "video", "audio", "ptt", "document", "sticker"})
EXPIRES_IN = 60
"""Seconds for which the contract says that a code is good."""


def workspace_of(session: str) -> int | None:
    """As the name of a session has it that Laravel made."""
    found = _WORKSPACE.fullmatch(session)
    return int(found[1]) if found else None


def message(data: Mapping[str, Any], media: Mapping[str, str] | None = None) -> Event | None:
    """None: it is nothing that Laravel takes (a status, a channel). `media`: data in base64, mimetype, filename."""
    chat = _text(data, "chat")
    if not chat or chat.endswith(_NEWSLETTER) or chat == _STATUS or not _text(data, "id"):
        return None
    group = chat.endswith(_GROUP)
    content: dict[str, Any] = {
        "id": _text(data, "id"),
        "from": chat,
        "to": _text(data, "to"),
        "body": _text(data, "body") or _text(data, "caption"),
        "timestamp": _number(data, "timestamp") or int(time.time()),
        "from_me": data.get("from_me") is True,
        "type": _text(data, "type") or "chat",
        "has_media": has_media(data),
        "chat_type": "group" if group else "private",
    }
    if group:
        author = _text(data, "author")
        content |= {"group_id": chat, "sender_phone": author.partition("@")[0], "sender_name": _text(data, "name")}
    if media is not None:
        content["media"] = dict(media)
    if content["from_me"]:
        content["status"] = _status(_number(data, "ack"))
        return "message_sent", {"message": content, "source": "web"}
    return "message_received", {"message": content}


def has_media(data: Mapping[str, Any]) -> bool:
    return _text(data, "type") in _MEDIA


def acknowledged(message_id: str, ack: int) -> Event | None:
    """With the level as the contract counts it: one more than WhatsApp does. None: it says nothing of the recipient."""
    if ack > max(STATUS):
        return None
    data = {"message_id": message_id, "status": _status(ack), "ack_level": max(0, ack + 1)}
    return "message_status_updated", {**data, "timestamp": int(time.time())}


def _status(ack: int) -> str:
    if ack < 0:
        return FAILED
    return STATUS.get(ack, STATUS[1])  # what a device of one's own has was sent


def presence(data: Mapping[str, Any]) -> list[Event]:
    chat, state = _text(data, "chat"), _text(data, "state")
    if not chat:
        return []
    found: list[Event] = []
    if state in _TYPING:
        found.append(("typing_indicator", {"contact_id": chat, "is_typing": _TYPING[state], "chat_id": chat}))
    return [*found, ("chat_state_updated", {"chat_id": chat, "chat_state": state, "last_seen": int(time.time())})]


def code(picture: str, count: int, *, again: bool) -> Event:
    """`picture`: a data URL of a PNG."""
    data = {"qr_code": picture, "expires_in": EXPIRES_IN, "qr_count": count, "is_regeneration": again}
    return "qr_code_generated", data


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53 else 0
