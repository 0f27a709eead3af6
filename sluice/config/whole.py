"""Whether a file that was written in place is whole, or only the beginning of what is being written.

The beginning of a YAML file is often valid YAML: a copy over a slow link that stands still would go live without its
last sections. What is known of the end is the version in force. So a text is doubted that stops before the last key
which that one has, or before its line break; it counts after it has not changed for `STILL_FOR`. A version that ended
with the marker of a document's end, `...`, is only followed by one that does, too. What is moved into place (`mv`, most
editors, Kubernetes, rsync) was whole before and is not doubted.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from sluice.config import document
from sluice.config.problems import Malformed
from sluice.config.written import written

STILL_FOR = 30.0  # seconds
END = b"..."
_CUT_OFF = "so it may be only half written"


@dataclass(frozen=True, slots=True)
class Look:
    """What a file held at one moment, and which file it was."""

    content: bytes
    device: int
    inode: int

    def is_moved(self, before: Look) -> bool:
        return (self.device, self.inode) != (before.device, before.inode)


@dataclass(frozen=True, slots=True)
class Doubt:
    why: Malformed
    ends: bool
    """By itself, after `STILL_FOR`."""


def look(file: Path) -> Look | None:
    """None: it cannot be read, or is no regular file."""
    with contextlib.suppress(OSError, ValueError), open(file, "rb", opener=_without_waiting) as opened:
        about = os.fstat(opened.fileno())
        if stat.S_ISREG(about.st_mode):
            return Look(opened.read(), about.st_dev, about.st_ino)
    return None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that nobody writes into would never open


def doubt(before: Look, after: Look) -> Doubt | None:
    """Why `after` may not be whole, as far as `before`, the version in force, tells."""
    if after.is_moved(before):
        return None
    if _is_marked(before.content) and not _is_marked(after.content):
        why = f"does not end with the line ... as the version in force does, {_CUT_OFF}"
        return Doubt(Malformed(why, "add the line, or move the whole file into place (mv)"), ends=False)
    last = _last_key(before.content)
    if last and last not in _keys(after.content):
        why = f"ends without {'.'.join(last)}, which the version in force has, {_CUT_OFF}"
    elif before.content.endswith(b"\n") and not after.content.endswith(b"\n"):
        why = f"ends without a line break, unlike the version in force, {_CUT_OFF}"
    else:
        return None
    cure = f"it counts after {STILL_FOR:g} s without a change, or at once if it is moved into place (mv)"
    return Doubt(Malformed(why, cure), ends=True)


def _is_marked(content: bytes) -> bool:
    lines = [line.partition(b"#")[0].strip() for line in content.splitlines()]
    return next(filter(None, reversed(lines)), b"") == END


def _keys(content: bytes) -> tuple[tuple[str, ...], ...]:
    root = document.parse(content, "").root
    return () if root is None else tuple(written(root, {}))


def _last_key(content: bytes) -> tuple[str, ...]:
    keys = _keys(content)
    return keys[-1] if keys else ()
