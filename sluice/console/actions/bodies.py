"""Headers and bodies of events, as the API answers them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from relay.queue.codec import Stored


@dataclass(frozen=True, slots=True)
class Content:
    headers: tuple[tuple[str, str], ...]
    body: str | None
    body_base64: str | None
    """The body where it is not text."""


def content_of(event: Stored) -> Content:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
    try:
        return Content(headers, event.body.decode(), None)
    except UnicodeDecodeError:
        return Content(headers, None, base64.b64encode(event.body).decode())
