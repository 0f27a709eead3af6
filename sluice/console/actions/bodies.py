"""Headers and bodies of events, as the API answers them."""

from __future__ import annotations

import base64
import re
from typing import TypedDict

from relay.queue.codec import Stored

_CREDENTIAL = re.compile(r"authorization|cookie|token|secret|password|api.?key", re.IGNORECASE)
"""In the name of a header that proves its sender to somebody. An endpoint may have it sent on; nobody is shown it."""
_MASKED = "***"


class Content(TypedDict):
    headers: tuple[tuple[str, str], ...]
    body: str | None
    body_base64: str | None
    """The body where it is not text."""


def content_of(event: Stored) -> Content:
    headers = tuple(_shown(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
    try:
        return {"headers": headers, "body": event.body.decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"headers": headers, "body": None, "body_base64": base64.b64encode(event.body).decode()}


def _shown(name: str, value: str) -> tuple[str, str]:
    return name, _MASKED if _CREDENTIAL.search(name) else value
