"""Where lines of a log are written: files that make room for new ones, and streams that others read.

A file that somebody moves or removes is followed by a new one of the same name (logrotate needs no signal and no
`copytruncate`). On a full disk lines are lost and the work goes on, and the line that was cut is ended before the next
one. Several processes of one name write whole lines into one file.

A stream may be shared by several processes, and its reader may stand still. So no more is written at once than a pipe
takes as one piece (`PIPE_BUF`), and nothing waits: what the reader does not take is kept for a while, and then lost.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
from itertools import count
from pathlib import Path

SIZE, FILES = 16 * 2**20, 2
_AT_ONCE = select.PIPE_BUF
_MAX_UNSENT = 2**20


class LogFile:
    """A file, and the older ones beside it: `NAME.1` is the newest of them. `begins_late`: with the first line."""

    def __init__(self, path: Path, *, begins_late: bool = False) -> None:
        self.size = SIZE
        """Bytes after which a new one begins."""
        self.files = FILES
        """How many are kept, the newest included."""
        self.unsent = False
        self._path = path
        self._file = -1 if begins_late else _opened(path)
        self._cut = False

    def write(self, lines: bytes | bytearray) -> None:
        """Raises OSError where not all of them could be written."""
        if self._file < 0:
            self._file = _opened(self._path)
        with contextlib.suppress(OSError):  # then it goes on where it was
            self._follow()
        piece = b"\n" + lines if self._cut else lines
        written = os.write(self._file, piece)
        self._cut = written < len(piece)
        if self._cut:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _follow(self) -> None:
        """Into a new file, when this one has grown, or is no longer the one of that name."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is not None and os.path.samestat(there, os.fstat(self._file)):
            if there.st_size <= self.size:
                return
            self._make_room()
        old, self._file = self._file, _opened(self._path)
        os.close(old)

    def _make_room(self) -> None:
        """One process of several does it: raises BlockingIOError in the others, which follow with their next lines."""
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
            make_room(self._path, self.files)


def make_room(path: Path, files: int) -> None:
    """Moves a full file away, so that a new one of its name can begin; `files` are kept with that one. Raises
    OSError."""
    for number in count(max(files - 1, 1)):
        if not _older(path, number).exists():
            break
        _older(path, number).unlink(missing_ok=True)
    for number in range(files - 2, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            _older(path, number).replace(_older(path, number + 1))
    if files > 1:
        path.replace(_older(path, 1))
    else:
        path.unlink()


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _opened(file: Path) -> int:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class Stream:
    """Standard output or error, by its number."""

    def __init__(self, number: int) -> None:
        self.unsent = False
        """Something is kept that the reader has not taken: call `write` again, with nothing, a little later."""
        self._number = _never_waiting(number)
        self._kept = bytearray()
        self._poll = select.poll()
        self._poll.register(self._number, select.POLLOUT)

    def write(self, lines: bytes | bytearray) -> None:
        """Raises OSError where lines were lost."""
        kept = self._kept
        kept += lines
        try:
            while kept and self._takes():
                del kept[: os.write(self._number, kept[: _piece(kept)])]
        except BlockingIOError:
            pass
        except OSError:
            kept.clear()  # nobody reads it any more
            raise
        finally:
            self.unsent = bool(kept)
        if len(kept) > _MAX_UNSENT:
            kept.clear()
            kept += b"\n"  # ends a line that was cut
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    def _takes(self) -> bool:
        return bool(self._poll.poll(0))


def _piece(lines: bytearray) -> int:
    """Up to a line's end, as much as goes out at once: lines of several processes are not mixed."""
    return lines.rfind(b"\n", 0, _AT_ONCE) + 1 or min(len(lines), _AT_ONCE)


def _never_waiting(number: int) -> int:
    """Of a pipe an opening of our own: what is set of the one that we were given would be set for all who have it."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return number
