"""The fence under which a worker sends an event: refused is what comes from a former owner of its session. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.problems import Refusal
from gateway.request import Head
from sluice.http.fields import FORWARDING

HEADER: Final = b"x-sluice-fence"
STALE: Final = "stale fence: its session has another owner by now, so this event is not taken; do not send it again"
BEYOND: Final = (
    "X-Sluice-Fence: is more than an hour ahead of the time; send the number that the answer to the beat has"
)
_MICROSECONDS: Final = re.compile(rb"[1-9][0-9]{0,15}")
_WANTED: Final = "must be the number that the answer to the beat has for the session"


def fence_of(head: Head, session: str | None) -> int:
    """Of a webhook; 0: it carries none. Raises Refusal 400."""
    if not head.fields.kinds & FORWARDING:  # as nearly always
        return 0
    return read_fence([field.value for field in head.fields.all if field.key == HEADER], session)


def read_fence(values: Sequence[bytes], session: str | None) -> int:
    """Of all fields of this name. Raises Refusal 400."""
    if not values:
        return 0
    if len(values) > 1:
        raise Refusal(400, "X-Sluice-Fence: is there more than once")
    if not _MICROSECONDS.fullmatch(values[0]):
        raise Refusal(400, f"X-Sluice-Fence: {_WANTED}")
    if session is None:
        raise Refusal(400, "X-Sluice-Fence: the event names no session that it could be of")
    return int(values[0])


def fence_field(value: object, session: str | None, place: str) -> int:
    """Of an event that is published with others; `place`: of the field. Raises Refusal 400."""
    if not isinstance(value, int) or isinstance(value, bool) or not _MICROSECONDS.fullmatch(str(value).encode()):
        raise Refusal(400, f"{place}: {_WANTED}")
    if session is None:
        raise Refusal(400, f"{place}: the event names no session that it could be of")
    return value
