"""A body in chunks: what is in it, and where it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httptools

from sluice.http.server.refused import Refused

_MAX_OVERHEAD: Final = 64 * 1024
"""Bytes of chunk extensions and trailers, beyond what chunks of their size need."""
_CHUNKS_FOLLOW: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class ChunkedBody:
    """Of one connection, one body after the other; uvicorn's parser reads them. `take` gets what is in the chunks.

    Trailers are dropped: none may become a header (RFC 9110 section 6.5.1).
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._whole = False
        self._end = b""  # the last bytes, which may begin the end of the body
        self._overhead = 0

    def begin(self) -> None:
        self._whole, self._end, self._overhead = False, b"", 0
        assert self._parser is not None
        self._parser.feed_data(_CHUNKS_FOLLOW)

    def close(self) -> None:
        """It is needed no more: the parser and this hold on to each other."""
        self._parser = None

    def read(self, data: bytes) -> bytes | None:
        """What comes behind the body; None: it has not ended. Raises Refused and HttpParserError.

        Fed up to each empty line: one of them is the end, and only the parser knows which.
        """
        begin = len(self._end)
        joined = self._end + data
        while begin < len(joined):
            end = joined.find(b"\r\n\r\n", max(0, begin - 3)) + 4
            if end < 4:
                end = len(joined)
            self._feed(joined[begin:end])
            if self._whole:
                return joined[end:]
            begin = end
        self._end = joined[-3:]
        return None

    def _feed(self, piece: bytes) -> None:
        self._overhead += len(piece)
        assert self._parser is not None
        self._parser.feed_data(piece)
        if self._overhead > _MAX_OVERHEAD:
            raise Refused(400, "there is too much beside the chunks' data")

    # --- called by the parser

    def on_body(self, body: bytes) -> None:
        self._overhead = max(0, self._overhead - 2 * len(body) - 16)
        self._take(body)

    def on_message_complete(self) -> None:
        self._whole = True
