"""How a session is called in a folder or a bucket."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

_LONGEST = 200
"""Characters; file systems take 255."""


def folder_of(session: str) -> str:
    """A name of letters, digits, `_`, `-`, `~` and `%` that no other session has, and that leads out of nothing."""
    name = quote(session, safe="").replace(".", "%2E")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 66]}%%{hashlib.sha256(session.encode()).hexdigest()}"
