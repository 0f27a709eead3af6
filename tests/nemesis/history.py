"""What happened, line by line: each process of a run writes its own file, all by the machine's monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Entry = dict[str, Any]


class History:
    """Appends to one file. A line is in the file before the call returns, so a kill loses none."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("ab", buffering=0)

    def note(self, kind: str, *, at: float | None = None, **about: object) -> None:
        """`at` in seconds, monotonic; None: now."""
        self._file.write(orjson.dumps({"at": time.monotonic() if at is None else at, "kind": kind, **about}) + b"\n")

    def close(self) -> None:
        self._file.close()


def read(folder: Path) -> list[Entry]:
    """Everything that the files `*.jsonl` of a folder say, in the order it happened."""
    return sorted((entry for file in folder.glob("*.jsonl") for entry in _lines(file)), key=lambda entry: entry["at"])


def _lines(file: Path) -> Iterator[Entry]:
    for line in file.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # a process may have been killed while it wrote the last one
            yield orjson.loads(line)
