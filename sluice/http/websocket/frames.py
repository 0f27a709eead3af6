"""What comes on a WebSocket, cut at the ends of its frames (RFC 6455 section 5.2). No I/O.

Whether a frame is right, its parser says. A parser that is given all that was read goes through tens of thousands of
frames before anybody else has a turn; here it is given one frame at a time. A long compressed frame is given as
fragments of 256 bytes (section 5.4): each becomes 264 KB at most.
"""

from __future__ import annotations

PIECE = 256
"""Bytes of a compressed frame that are given at once; a multiple of the mask's four."""
_FIN, _RSV1, _CONTROL, _OPCODE, _MASKED, _LENGTH = 0x80, 0x40, 0x08, 0x0F, 0x80, 0x7F


def is_pong(frame: bytes) -> bool:
    return frame[:1] == b"\x8a"


class Frames:
    """Of one direction of one connection."""

    def __init__(self) -> None:
        self.inflates = False
        """permessage-deflate was agreed on (RFC 7692)."""
        self.carries_nothing = False
        """What `next` gave last is a control frame, or an empty fragment: the other side gets nothing by it."""
        self._held = bytearray()
        self._left = 0  # bytes of the frame that was begun
        self._in_pieces = False  # it is given as fragments
        self._deflated = False  # the message it belongs to is compressed
        self._first = 0  # the first byte of the next fragment
        self._fin = 0
        self._mask = b""

    @property
    def held(self) -> int:
        """Bytes that were added and not given yet."""
        return len(self._held)

    @property
    def is_partial(self) -> bool:
        """What was given last is not all of its frame, which is given as it comes."""
        return self._left > 0 and not self._in_pieces

    def add(self, data: bytes) -> None:
        self._held += data

    def drop(self) -> None:
        self._held.clear()

    def passes(self, data: bytes) -> bool:
        """Whether all of it belongs to the frame that was begun, so that it can be given on as it is."""
        if self._held or self._in_pieces or not 0 < len(data) <= self._left:
            return False
        self._left -= len(data)
        return True

    def next(self) -> bytes:
        """A frame, as much as there is of one, or a fragment made of one; empty: more has to come first."""
        self.carries_nothing = False
        if self._left:
            return self._fragment() if self._in_pieces else self._give(0, self._left)
        held = self._held
        size = len(held)
        if size < 2:
            return b""
        first, length = held[0], held[1] & _LENGTH
        wide = 2 if length == 126 else 8 if length == 127 else 0
        head = 2 + wide + (4 if held[1] & _MASKED else 0)
        if size < head:
            return b""
        if wide:
            length = int.from_bytes(held[2 : 2 + wide])
        self.carries_nothing = bool(first & _CONTROL) or not (length or first & _FIN)
        if not first & _CONTROL:
            if first & _OPCODE:
                self._deflated = self.inflates and bool(first & _RSV1)
            if self._deflated and length > PIECE:
                return self._begin_pieces(first, head, length)
        return self._give(head, length)

    def _give(self, head: int, length: int) -> bytes:
        end = min(head + length, len(self._held))
        self._left = head + length - end
        given = bytes(self._held[:end])
        del self._held[:end]
        return given

    def _begin_pieces(self, first: int, head: int, length: int) -> bytes:
        self._first, self._fin = first & ~_FIN, first & _FIN
        self._mask = bytes(self._held[head - 4 : head]) if self._held[1] & _MASKED else b""
        self._in_pieces, self._left = True, length
        del self._held[:head]
        return self._fragment()

    def _fragment(self) -> bytes:
        size = min(PIECE, self._left)
        if len(self._held) < size:
            return b""
        self._left -= size
        first, self._first = self._first, 0  # the others continue the first
        if not self._left:
            first |= self._fin
            self._in_pieces = False
        masked = _MASKED if self._mask else 0
        head = bytes((first, masked | size)) if size < 126 else bytes((first, masked | 126)) + size.to_bytes(2)
        given = head + self._mask + bytes(self._held[:size])
        del self._held[:size]
        return given
