"""A body in chunks."""

from __future__ import annotations

import httptools

from sluice.http.client.response_head import MAX_HEAD
from sluice.http.errors import BadFraming


class Chunks:
    """A body in chunks, as the parser reads it. Trailers are dropped: neither ASGI nor the sender can pass them on."""

    def __init__(self) -> None:
        self.over = False
        self.more = False
        """Something came after the end."""
        self._pieces: list[bytes] = []
        self._quiet = 0
        """Bytes since the last piece of the body: extensions and trailers have no length of their own."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body in these bytes. Raises BadFraming."""
        assert self._parser is not None
        pieces = self._pieces = []
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.over:
                raise BadFraming(str(error)) from None
            self.more = True
        self._quiet = 0 if pieces else self._quiet + len(data)
        if self._quiet > MAX_HEAD:
            raise BadFraming("chunks with too little data")
        return pieces

    def close(self) -> None:
        self._parser = None  # it holds on to us

    # What the parser tells us.

    def on_message_begin(self) -> None:
        self.more = self.over

    def on_chunk_header(self) -> None:
        self.more = self.over

    def on_body(self, data: bytes) -> None:
        if not self.over:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.over = True
