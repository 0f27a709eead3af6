"""What the session workers send, event by event: `{"event": type, "data": {"workspace_id", "session_id", …}}`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

Data = dict[str, Any]
Make = Callable[[int], tuple[str, Data]]
"""The nth webhook of a session: its event type, and its data without workspace and session."""

_LIFE: tuple[tuple[str, Data], ...] = (
    ("session_authenticated", {}),
    ("session_ready", {"phone_number": "628110000000", "status": "connected", "platform": "android"}),
    ("session_disconnected", {"reason": "NAVIGATION"}),
    ("session_status_changed", {"status": "qr_scanning"}),
)
_LEVELS = ((1, "sent"), (2, "delivered"), (3, "read"))


def message(number: int) -> tuple[str, Data]:
    contact = _contact()
    content = {
        "id": _message_id(contact),
        "from": contact,
        "to": "628110000000@c.us",
        "body": f"message {number} of a load test",
        "timestamp": int(time.time()),
        "from_me": False,
        "type": "chat",
        "has_media": False,
        "chat_type": "private",
        "group_id": None,
    }
    return "message_received", {"message": content}


def receipt(number: int) -> tuple[str, Data]:
    level, status = _LEVELS[number % len(_LEVELS)]
    told = {"message_id": _message_id(_contact()), "status": status, "ack_level": level, "timestamp": int(time.time())}
    return "message_status_updated", told


def typing(number: int) -> tuple[str, Data]:
    return "typing_indicator", {"from": _contact(), "typing": number % 2 == 0}


def heartbeat(number: int) -> tuple[str, Data]:
    return "heartbeat", {"status": "connected", "beat": number}


def qr(number: int) -> tuple[str, Data]:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 200  # some 2 KiB, as a QR code's picture has
    return "qr_code_generated", {
        "qr_code": picture,
        "expires_in": 60,
        "qr_count": number + 1,
        "is_regeneration": number > 0,
    }


def lifecycle(number: int) -> tuple[str, Data]:
    event, data = _LIFE[number % len(_LIFE)]
    return event, dict(data)


def noise(number: int) -> tuple[str, Data]:
    """Of a session that has gone wild: typing without end, and a message now and then."""
    return typing(number) if number % 4 else message(number)


def send(session: str, workspace: str, number: int) -> Data:
    """What Laravel asks of a worker."""
    return {
        "session_id": session,
        "workspace_id": workspace,
        "recipient_phone": "628120000000",
        "message": f"message {number} of a load test",
        "type": "text",
    }


def _contact() -> str:
    return f"62812{random.randrange(10**8):08d}@c.us"


def _message_id(contact: str) -> str:
    return f"false_{contact}_{random.getrandbits(80):020X}"
