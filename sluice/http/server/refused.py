"""Why a request is not read."""

from __future__ import annotations


class BrokenOff(Exception):
    """An answer ends early, and must not look complete to the client (RFC 9112 section 8)."""


class Refused(Exception):
    """Ends the reading of a connection with this answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
