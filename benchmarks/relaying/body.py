"""The event that is sent: 500 bytes of JSON, its fields at fixed places, so that reading them costs next to nothing."""

from __future__ import annotations

SIZE = 500
_HEAD = b'{"event":"message_received","data":{"session_id":"s'
_SEQUENCE = b'","sequence":"'
_AT = b'"},"at":"'
_PAD = b'","pad":"'
_SESSION_AT = len(_HEAD)
_SEQUENCE_AT = _SESSION_AT + 5 + len(_SEQUENCE)
_TIME_AT = _SEQUENCE_AT + 8 + len(_AT)


def body(session: int, sequence: int, at: float = 0.0, size: int = SIZE) -> bytes:
    """`at`: unix seconds at which it was sent."""
    text = b"%b%05d%b%08d%b%017.6f%b" % (_HEAD, session, _SEQUENCE, sequence, _AT, at, _PAD)
    return text + b"x" * (size - len(text) - 2) + b'"}'


def read(text: bytes, start: int) -> tuple[int, int, float]:
    """Session, sequence and time of the body that begins at `start`."""
    session = int(text[start + _SESSION_AT : start + _SESSION_AT + 5])
    sequence = int(text[start + _SEQUENCE_AT : start + _SEQUENCE_AT + 8])
    return session, sequence, float(text[start + _TIME_AT : start + _TIME_AT + 17])
