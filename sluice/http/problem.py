"""Why a request is not answered as its sender wished: on the wire problem+json (RFC 9457), or a page for a person."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Self

import orjson

from sluice.http import error_page
from sluice.http.fields import pair_of
from sluice.http.negotiation import wants_page

MEDIA_TYPE = "application/problem+json"
_OF_JSON = [(b"content-type", MEDIA_TYPE.encode())]
_VARY = (b"vary", b"Accept")

Pairs = list[tuple[bytes, bytes]]


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

    def answer(self, accept: bytes, request_id: str) -> tuple[Pairs, bytes]:
        """Fields and body, in the form that the client accepts (`sluice.http.negotiation.accepted`). The id of the
        request, empty where it has none, is in the body only."""
        title = HTTPStatus(self.status).phrase
        if wants_page(accept):
            kind = error_page.FIELDS
            retry_after = (self.retry_after or b"").decode()
            body = error_page.page(self.status, title, self.detail, request_id, retry_after)
        else:
            kind, body = _OF_JSON, self._json(title, request_id)
        headers = [*kind, (b"content-length", b"%d" % len(body)), _VARY]
        if self.retry_after:
            headers.append((b"retry-after", self.retry_after))
        return [*headers, *map(pair_of, self.lines)], body

    def _json(self, title: str, request_id: str) -> bytes:
        about = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.more}
        return orjson.dumps({**about, "request_id": request_id} if request_id else about)


FAILED = Refusal(500, "the request could not be answered")


class ClientGone(Exception):
    """The client went away before its request was read."""
