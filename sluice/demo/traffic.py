"""The traffic of the demo: what one session says in one minute, decided without a clock.

Per session and minute 1 message, 2 acknowledgements of it, 1 typing indicator and 1 heartbeat: 50 sessions make the
250 events a minute of which a receiver that takes 100 loses 60 %. The same arguments always give the same minute, so
a session that moves to another worker goes on counting where the wall clock is.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]
"""A webhook's body as the workers send it: `{"event": type, "data": {"workspace_id", "session_id", …}}`."""

_WORKSPACES = 5
_FIRST_CREATED = 1_700_000_000
_ORDERED = 3
"""Events of a minute that carry a `sequence`: the message and its two acknowledgements."""


@dataclass(frozen=True, slots=True)
class Timed:
    at: float
    """Fraction of the minute, in [0, 1)."""
    event: Event


def names(count: int) -> list[str]:
    """The sessions of the demo, `webjs_{workspace}_{ts}_{rand}`; a longer list begins with the shorter one."""
    return [f"webjs_{1 + n % _WORKSPACES}_{_FIRST_CREATED + n}_{_digest('name', n)[:8]}" for n in range(count)]


def workspace(session: str) -> int:
    """The workspace written in a session's name; 1 for names of another form."""
    parts = session.split("_")
    return int(parts[1]) if len(parts) == 4 and parts[1].isascii() and parts[1].isdigit() else 1


def phone(session: str) -> str:
    return f"62811{int(_digest('phone', session)[:12], 16) % 10**8:08d}"


def phase(session: str) -> float:
    """Where in [0, 1) of everybody's minute this session's own minute begins, so that sessions do not move in step."""
    return int(_digest("phase", session)[:8], 16) / 2**32


def minute(session: str, number: int, seed: int = 0) -> list[Timed]:
    """The session's minute `number` (0, 1, 2 …), in the order of time; acknowledgements come after their message.

    Message and acknowledgements share the per-session `sequence`, which grows over minutes without a gap; typing and
    heartbeat carry the minute's number as `beat`.
    """
    chance = random.Random(f"{seed}:{session}:{number}")
    sent = chance.uniform(0.0, 0.6)
    delivered = sent + chance.uniform(0.02, 0.2)
    read = delivered + chance.uniform(0.02, 0.19)
    first = number * _ORDERED + 1
    contact = f"62812{chance.randrange(10**8):08d}@c.us"
    message = f"false_{contact}_{_digest(seed, session, number)[:20].upper()}"
    timed = [
        Timed(sent, _message(session, message, contact, first, _second(number, sent))),
        Timed(delivered, _receipt(session, message, "delivered", 2, first + 1, _second(number, delivered))),
        Timed(read, _receipt(session, message, "read", 3, first + 2, _second(number, read))),
        Timed(chance.random(), event("typing_indicator", session, {"from": contact, "typing": True, "beat": number})),
        Timed(chance.random(), event("heartbeat", session, {"status": "connected", "beat": number})),
    ]
    return sorted(timed, key=lambda each: each.at)


def event(name: str, session: str, data: dict[str, Any]) -> Event:
    """One webhook's body in the form of the contract."""
    return {"event": name, "data": {"workspace_id": workspace(session), "session_id": session, **data}}


def _message(session: str, message: str, contact: str, sequence: int, timestamp: int) -> Event:
    content = {
        "id": message,
        "from": contact,
        "to": f"{phone(session)}@c.us",
        "body": f"message {sequence} of the demo",
        "timestamp": timestamp,
        "from_me": False,
        "type": "chat",
        "has_media": False,
        "chat_type": "private",
        "group_id": None,
    }
    return event("message_received", session, {"message": content, "sequence": sequence})


def _receipt(session: str, message: str, status: str, level: int, sequence: int, timestamp: int) -> Event:
    data = {"message_id": message, "status": status, "ack_level": level, "timestamp": timestamp, "sequence": sequence}
    return event("message_status_updated", session, data)


def _second(number: int, at: float) -> int:
    return int((number + at) * 60)


def _digest(*parts: object) -> str:
    return hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()
