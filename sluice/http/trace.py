"""W3C Trace Context (level 2): `traceparent` and `tracestate`, by which all who saw a request find it again.

A sound one goes on with the request, and with the event that it becomes; what is not sound is passed over, as the
recommendation wants it (sections 3.2.2 and 3.3.1): nothing of it goes on, and the next one begins a trace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sluice.http.fields import TRACEPARENT, TRACESTATE, Field, Fields

TRACE: Final = TRACEPARENT | TRACESTATE
PARENT: Final = b"traceparent"
STATE: Final = b"tracestate"
NAMES: Final = frozenset((PARENT, STATE))
EXAMPLE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MAX_KEPT: Final = 512
"""Bytes of `tracestate` that go with an event: as many as everybody has to pass on (section 3.3.1.5)."""
_PARENT: Final = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-.*)?"
)
_MEMBER: Final = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS: Final = 32


def is_sound(parent: bytes) -> bool:
    """Whether it is a traceparent of a version that we know, or of a later one, which may have more behind."""
    found = _PARENT.fullmatch(parent)
    return found is not None and (found["more"] is None or found["version"] != b"00")


def parent_of(fields: Fields) -> bytes | None:
    """The sound `traceparent` of a head; None: it has none, several, or one that is not sound."""
    if not fields.kinds & TRACEPARENT or fields.repeated & TRACEPARENT:
        return None
    parent = fields.first(TRACEPARENT)
    return parent if parent is not None and is_sound(parent) else None


def unsound(fields: Fields) -> int:
    """The kinds of fields that must not go on: none, `tracestate`, or both."""
    if parent_of(fields) is None:
        return TRACE
    states = [field.value for field in fields.all if field.kind == TRACESTATE]
    return 0 if is_sound_state(states) else TRACESTATE


def is_sound_state(values: Sequence[bytes]) -> bool:
    """Of all fields of this name: at most 32 members, each key once."""
    members = [member.strip(b" \t") for member in b",".join(values).split(b",")]
    found = [_MEMBER.fullmatch(member) for member in members if member]
    keys = [match[1] for match in found if match is not None]
    return len(keys) == len(found) == len(set(keys)) <= _MAX_MEMBERS


def with_parent(fields: Fields, parent: bytes) -> Fields:
    """With this `traceparent` instead of its own; of a trace that begins anew nothing is left."""
    kept = fields.without(TRACEPARENT | unsound(fields)) if fields.kinds & TRACE else fields.all
    return Fields([*kept, Field(PARENT, parent)])


def kept_of(fields: Fields) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values that go with an event."""
    if not fields.kinds & TRACE:
        return ()
    kept = [field for field in fields.without(unsound(fields)) if field.kind & TRACE and len(field.value) <= MAX_KEPT]
    return tuple([(field.name, field.value) for field in kept])


def id_of(parent: bytes) -> str:
    """The id of the trace, of a sound `traceparent`."""
    return parent[3:35].decode()


def id_in(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The id of the trace of an event, by the headers that it was stored with."""
    for name, value in headers:
        if len(name) == 11 and name.lower() == PARENT:
            return id_of(value)
    return None
