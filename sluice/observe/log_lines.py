"""Lines of JSON, and where they go: the part of `sluice/observe/log.py` that every request and delivery passes through.

A field whose name speaks of a secret is masked here, so that no caller can forget to.

Lines are written together, ten times a second, because a gateway writes thousands of them: what a `kill -9` may cost is
the last tenth of a second of `info`. Warnings and errors are written at once.

What can happen to a file: moved or removed by somebody (logrotate needs no signal and no `copytruncate`), lines go on
in a new one of the same name; on a full disk lines are lost and the work goes on, and the line that was cut is ended
before the next one; several processes of one name write whole lines into one file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from sluice.observe.metrics import counts, recent
from sluice.observe.printable import printable_json

_SECRET = re.compile(r"secret|token|password|signature|authorization|api_key", re.IGNORECASE)
_TOGETHER_FOR = 0.1
_MAX_BATCH = 64 * 1024
_MAX_FILE = 16 * 1024 * 1024
_MAX_NAMES = 1000
_HEAD = frozenset(("at", "level", "process", "msg"))
_SHOWN_FROM = logging.WARNING
_INFO = b'Z","level":"info"'
_LEVELS = {
    logging.INFO: _INFO,
    logging.WARNING: b'Z","level":"warning"',
    logging.ERROR: b'Z","level":"error"',
    logging.CRITICAL: b'Z","level":"error"',
    logging.DEBUG: b'Z","level":"debug"',
}
_dumps = orjson.dumps
_LOST = counts("sluice_log_writes_failed_total", "Batches of log lines that could not be written.", [])
recent(_LOST, "sluice_log_writes_failed_total", [])


class Lines:
    """Where the lines of this process go. `file` None: all of them to standard error. Used from one thread only."""

    def __init__(self, process: str | None, file: Path | None) -> None:
        self._process = process
        self._path = file
        self._file = -1 if file is None else _opened(file)
        self._cut = False
        self._moment = 0
        self._at = b""
        self._named = b',"process":%b,"msg":' % orjson.dumps(process)
        self._waiting = bytearray()  # one piece that grows: a list of small ones costs six times as much to keep
        self._timer: asyncio.TimerHandle | None = None

    def line(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if self._process is None:
            return
        moment = int(time.time() * 1000)
        if moment != self._moment:
            self._moment, self._at = moment, _at(moment)
        if not _plain.issuperset(fields):
            fields = _looked_at(fields)
        try:
            message_json, rest = _dumps(message), _dumps(fields, str, orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # half a surrogate pair, an integer of more than 64 bits: nothing that JSON has
            message_json = _dumps(ascii(message))
            rest = _dumps({name: ascii(value) for name, value in fields.items()}, None, orjson.OPT_APPEND_NEWLINE)
        comma = b"," if fields else b""
        text = b"%b%b%b%b%b%b" % (self._at, _LEVELS.get(level, _INFO), self._named, message_json, comma, rest[1:])
        self._waiting += text
        if level >= _SHOWN_FROM:
            self.flush()
            if self._path is not None:
                with contextlib.suppress(OSError):
                    os.write(2, _printable(text))
        elif len(self._waiting) > _MAX_BATCH:
            self.flush()
        elif self._timer is None:
            self._flush_soon()

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, bytearray()
        try:
            self._write(_printable(batch))
        except OSError:  # a full disk or a reader that is gone must not end the work
            _LOST.add()

    def _flush_soon(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER_FOR, self.flush)
        except RuntimeError:
            self.flush()

    def _write(self, batch: bytes | bytearray) -> None:
        if self._path is None:
            sys.stderr.write(batch.decode())
            sys.stderr.flush()
            return
        with contextlib.suppress(OSError):  # then it goes on where it was
            self._follow(self._path)
        written = os.write(self._file, b"\n" + batch if self._cut else batch)
        self._cut = written < len(batch)

    def _follow(self, path: Path) -> None:
        """Into a new file, when this one has grown, or is no longer the one of that name."""
        try:
            there = os.stat(path)
        except FileNotFoundError:
            there = None
        if there is not None and os.path.samestat(there, os.fstat(self._file)):
            if there.st_size <= _MAX_FILE:
                return
            path.replace(path.with_suffix(".jsonl.1"))
        old, self._file = self._file, _opened(path)
        os.close(old)


def _printable(lines: bytes | bytearray) -> bytes | bytearray:
    """Nearly all are ASCII, in which JSON leaves nothing but DEL unescaped."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return printable_json(lines.decode()).encode()


def _opened(file: Path) -> int:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _at(moment: int) -> bytes:
    """The head of a line. `moment` in milliseconds."""
    seconds, ms = divmod(moment, 1000)
    return time.strftime(f'{{"at":"%Y-%m-%dT%H:%M:%S.{ms:03d}', time.gmtime(seconds)).encode()


_plain: set[str] = set()
"""Names of fields that speak of no secret."""


def _looked_at(fields: dict[str, Any]) -> dict[str, Any]:
    """With what is secret masked; a name that the head of the line has already gets a `_`."""
    for name in fields.keys() - _plain:
        if not _SECRET.search(name) and name not in _HEAD and len(_plain) < _MAX_NAMES:
            _plain.add(name)
    return {
        f"{name}_" if name in _HEAD else name: "***" if _SECRET.search(name) else value
        for name, value in fields.items()
    }
