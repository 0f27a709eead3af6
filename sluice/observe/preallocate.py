"""Room on the disk for the files of metrics, taken before a process counts.

prometheus_client counts in files that are mapped into memory, and makes them with holes: a process that counts
something new when the disk is full is ended by SIGBUS. So each process takes the room at its start, and counts for
itself alone where there is none. To be called before prometheus_client is imported, which looks at the environment
once.
"""

from __future__ import annotations

import os
from pathlib import Path

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_MODES = ("livemax", "livemin", "livesum", "livemostrecent", "mostrecent")
KINDS = ("counter", "histogram", *(f"gauge_{mode}" for mode in _MODES))
"""Of those files: the beginnings of their names."""
SIZE = 512 * 1024
"""Bytes of each: some four thousand values."""


def preallocate() -> None:
    """For this process, in the folder that the environment names."""
    folder = os.environ.get(_DIRECTORY)
    if not folder or not hasattr(os, "posix_fallocate"):
        return
    files = [Path(folder) / f"{kind}_{os.getpid()}.db" for kind in KINDS]
    try:
        for file in files:
            _take(file)
    except OSError:
        del os.environ[_DIRECTORY]
        for file in files:
            file.unlink(missing_ok=True)


def _take(file: Path) -> None:
    opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(opened, 0, SIZE)
    finally:
        os.close(opened)
