"""Headers and bodies of events, as the API answers them."""

from __future__ import annotations

import base64
import re
from typing import TypedDict

from relay.queue.codec import Stored

_NAMES = r"(?:authorization|token|secret|password|api_?key)"
_IN_JSON = re.compile(
    rf'("[^"\\]{{0,64}}{_NAMES}[^"\\]{{0,64}}"\s{{0,16}}:\s{{0,16}})("(?:[^"\\]|\\.)*"?|[-\w.+]+)', re.I | re.S
)
_IN_FORM = re.compile(rf"((?:^|[?&])[^=&?\s]{{0,64}}{_NAMES}[^=&?\s]{{0,64}}=)[^&\s]*", re.I)
"""A send that waits has its caller's `api_key` in it, by which the worker that gets it knows him."""
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
        return {"headers": headers, "body": masked(event.body.decode()), "body_base64": None}
    except UnicodeDecodeError:
        return {"headers": headers, "body": None, "body_base64": base64.b64encode(event.body).decode()}


def masked(text: str) -> str:
    """A body, or a path with its query, in which values that are secrets by their names cannot be read."""
    if text.lstrip()[:1] in ("{", "["):
        return _IN_JSON.sub(rf'\1"{_MASKED}"', text)
    return _IN_FORM.sub(rf"\1{_MASKED}", text)


def _shown(name: str, value: str) -> tuple[str, str]:
    return name, _MASKED if _CREDENTIAL.search(name) else value
