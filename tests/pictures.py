"""Pictures as workers show them: real ones, which a browser draws."""

from __future__ import annotations

import base64
import struct
import zlib


def grey(side: int, pixels: bytes) -> str:
    """The data URL of a square, from its pixels of a byte each, row by row."""
    rows = b"".join(b"\0" + pixels[start : start + side] for start in range(0, side * side, side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
