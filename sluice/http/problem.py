"""Why a request is not answered as its sender wished; on the wire it is problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Self

import orjson

MEDIA_TYPE = "application/problem+json"


class Refusal(Exception):
    """Ends the handling of a request with this answer. `retry_after` in whole seconds."""

    def __init__(self, status: int, detail: str, *, retry_after: bytes | None = None, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.why = detail
        """In the log."""
        self.retry_after = retry_after
        self.more = more
        self.lines: Sequence[bytes] = ()
        """Field lines that its answer has beside its own."""

    def because(self, cause: str) -> Self:
        """With a cause that only the log tells."""
        self.why = f"{self.detail}: {cause}"
        return self

    def body(self) -> bytes:
        title = HTTPStatus(self.status).phrase
        about = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.more}
        return orjson.dumps(about)


class ClientGone(Exception):
    """The client went away before its request was read."""
