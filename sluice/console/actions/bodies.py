"""Headers and bodies of events, as the API answers them."""

from __future__ import annotations

import base64
from typing import TypedDict

from relay.queue.codec import Stored


class Content(TypedDict):
    headers: tuple[tuple[str, str], ...]
    body: str | None
    body_base64: str | None
    """The body where it is not text."""


def content_of(event: Stored) -> Content:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
    try:
        return {"headers": headers, "body": event.body.decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"headers": headers, "body": None, "body_base64": base64.b64encode(event.body).decode()}
