"""A body in chunks (RFC 9112 section 7.1)."""

from __future__ import annotations

import re
from typing import Final

from sluice.http.client.response_head import MAX_HEAD
from sluice.http.errors import BadFraming

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\r")
"""A line that begins a chunk. Blanks behind the size are what some servers pad it with, and stand for nothing."""
_AT_SIZE: Final = 0
_AT_END: Final = 1
"""Of a chunk's data."""
_IN_TRAILERS: Final = 2


class Chunks:
    """Takes the data out of chunks. Extensions and trailers are dropped: neither ASGI nor the sender can pass them
    on."""

    def __init__(self) -> None:
        self.over = False
        self.more = False
        """Something came after the end."""
        self._at: int = _AT_SIZE
        self._left = 0
        """Bytes of a chunk's data still to come."""
        self._held = b""
        """What has come of a line."""
        self._quiet = 0
        """Bytes since the last piece of the body: extensions and trailers have no length of their own."""

    def feed(self, data: bytes, pieces: list[bytes]) -> None:
        """Adds the pieces of the body in these bytes. Raises BadFraming."""
        came = len(data)
        if self._held:
            data, self._held = self._held + data, b""
        at, end = 0, len(data)
        while at < end and not self.over:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            after = data.find(b"\n", at) + 1
            if not after:
                self._held = data[at:]
                break
            self._take_line(data[at : after - 1])
            at = after
        self.more = self.over and at < end
        self._quiet = 0 if pieces else self._quiet + came
        if self._quiet > MAX_HEAD:
            raise BadFraming("over 64 KiB beside the data of chunks")

    def _take_line(self, line: bytes) -> None:
        """Without its LF."""
        if self._at == _AT_SIZE:
            read = _SIZE.fullmatch(line)
            if read is None:
                raise BadFraming("a chunk does not begin with its size in hexadecimal digits and CR LF")
            self._left = int(read[1], 16)
            self._at = _AT_END if self._left else _IN_TRAILERS
        elif self._at == _AT_END:
            if line != b"\r":
                raise BadFraming("a chunk is longer than its size")
            self._at = _AT_SIZE
        elif line in (b"\r", b""):  # a trailer is a field line, and may end with LF alone
            self.over = True
