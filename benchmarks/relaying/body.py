"""The event that is sent: 500 bytes of JSON, its fields at fixed places, so that reading them costs next to nothing."""

from __future__ import annotations

from struct import Struct

SIZE = 500
_HEAD = b'{"event":"message_received","data":{"session_id":"s'
_SEQUENCE = b'","sequence":"'
_AT = b'"},"at":"'
_PAD = b'","pad":"'
FIELDS_AT = len(_HEAD)
"""Where in the body the fields begin."""
FIELDS = Struct(f"5s{len(_SEQUENCE)}x8s{len(_AT)}x17s")
"""Session, sequence and time, as digits of a fixed number, so that their bytes order as their numbers do."""
NOT_TIMED = b"%017.6f" % 0.0


def body(session: int, sequence: int, at: float = 0.0, size: int = SIZE) -> bytes:
    """`at`: unix seconds at which it was sent."""
    text = b"%b%05d%b%08d%b%017.6f%b" % (_HEAD, session, _SEQUENCE, sequence, _AT, at, _PAD)
    return text + b"x" * (size - len(text) - 2) + b'"}'
