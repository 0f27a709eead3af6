"""JSON logs: one line per unit of work, on standard error; under `sluice up` in a file each, with only warnings shown.

`log.info("delivery.attempted", id=…, status=…, ms=…)`: the message is the event's name, the rest are fields. A field
whose name speaks of a secret is masked here, so that no caller can forget to.

Lines are written together, ten times a second, because a gateway writes thousands of them: what a `kill -9` may cost is
the last tenth of a second of `info`. Warnings and errors are written at once.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import re
import sys
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

_SECRET = re.compile(r"secret|token|password|signature|authorization|api_key", re.IGNORECASE)
_TOGETHER_FOR = 0.1
_LARGEST_BATCH = 64 * 1024
_LARGEST_FILE = 16 * 1024 * 1024
_SHOWN_FROM = logging.WARNING
_LEVELS = {logging.WARNING: "warning", logging.ERROR: "error", logging.CRITICAL: "error", logging.DEBUG: "debug"}


class Log:
    """A named source of lines. Until `start` was called nothing is written."""

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, message: str, **fields: Any) -> None:
        _out.line(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        _out.line(logging.WARNING, message, fields)

    def error(self, message: str, *, exception: BaseException | None = None, **fields: Any) -> None:
        if exception is not None:
            fields["exception"] = "".join(traceback.format_exception(exception))
        _out.line(logging.ERROR, message, fields)


def start(process: str) -> None:
    """Sends every log of this process out as JSON lines; `process` names it (`gateway`, `relay`, …).

    With `SLUICE_LOGS` set, all of them go to `<process>.jsonl` in that folder, two files of 16 MiB at most, and only
    warnings and errors to standard error, where a supervisor shows them.
    """
    global _out
    _out.flush()
    folder = os.environ.get("SLUICE_LOGS")
    _out = _Out(process, Path(folder) / f"{process}.jsonl" if folder else None)
    root = logging.getLogger()
    root.handlers = [_FromLibraries()]
    root.setLevel(logging.WARNING)


class _Out:
    """Where the lines of this process go. `file` None: all of them to standard error."""

    def __init__(self, process: str | None, file: Path | None) -> None:
        self._process = process
        self._path = file
        self._file = -1
        self._size = 0
        self._waiting = bytearray()  # one piece that grows: a list of small ones costs six times as much to keep
        self._timer: asyncio.TimerHandle | None = None
        if file is not None:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open(file)

    def line(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if self._process is None:
            return
        now = time.time()
        line: dict[str, Any] = {
            "at": f"{_second(int(now))}.{int(now % 1 * 1000):03d}Z",
            "level": _LEVELS.get(level, "info"),
            "process": self._process,
            "msg": message,
            **fields,
        }
        for name in _secrets(tuple(fields)):
            line[name] = "***"
        text = orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)
        self._waiting += text
        if level >= _SHOWN_FROM:
            self.flush()
            if self._path is not None:
                with contextlib.suppress(OSError):
                    os.write(2, text)
        elif len(self._waiting) > _LARGEST_BATCH:
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
        with contextlib.suppress(OSError):  # a full disk or a reader that is gone must not end the work
            self._write(batch)

    def _flush_soon(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER_FOR, self.flush)
        except RuntimeError:
            self.flush()

    def _write(self, batch: bytearray) -> None:
        if self._path is None:
            sys.stderr.write(batch.decode())
            sys.stderr.flush()
            return
        self._size += os.write(self._file, batch)
        if self._size > _LARGEST_FILE:
            os.close(self._file)
            self._path.replace(self._path.with_suffix(".jsonl.1"))
            self._open(self._path)

    def _open(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size


class _FromLibraries(logging.Handler):
    """What uvicorn, asyncio and others say, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        _out.line(record.levelno, record.getMessage(), fields)


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@lru_cache(maxsize=1024)
def _secrets(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if _SECRET.search(name))


_out = _Out(None, None)
atexit.register(lambda: _out.flush())
