"""Standard output and error of a command: whatever is written to them is escaped, wherever it came from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from sluice.observe.printable import printable


class Escaping:
    """A text stream that writes what is `printable` of what it is given."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw
        """For what makes a terminal's sequences itself and escapes its texts before."""
        if isinstance(raw, TextIOWrapper):
            raw.reconfigure(errors="backslashreplace")  # of an encoding that lacks a character

    def write(self, text: str) -> int:
        self.raw.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def escaped() -> Iterator[None]:
    """Both standard streams, until the block is left."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, Escaping(out)), cast(TextIO, Escaping(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def raw_output() -> TextIO:
    """Standard output below the escaping."""
    stream: Any = sys.stdout
    return stream.raw if isinstance(stream, Escaping) else sys.stdout
