"""JSON logs: one line per unit of work, on standard error; under `sluice up` in a file each, with only warnings shown.

`log.info("delivery.attempted", id=…, status=…, ms=…)`: the message is the event's name, the rest are fields. A field
that is absent and one that is null say the same: there is none. What becomes of a line: `sluice/observe/log_lines.py`.
"""

from __future__ import annotations

import atexit
import logging
import os
import traceback
from pathlib import Path
from typing import Any

from sluice.observe.log_lines import Lines


class Log:
    """A named source of lines. Until `start` was called nothing is written."""

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, message: str, **fields: Any) -> None:
        _out.line(logging.INFO, message, fields)

    def line(self, message: str, fields: dict[str, Any]) -> None:
        """As `info`, a quarter cheaper: for what is said of every request."""
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
    _out = Lines(process, Path(folder) / f"{process}.jsonl" if folder else None)
    root = logging.getLogger()
    root.handlers = [_FromLibraries()]
    root.setLevel(logging.WARNING)


def use_standard_logging() -> None:
    """Hands every log line to the logger `sluice` of the standard library, unless `start` was called."""
    global _out
    if _out is _NOWHERE:
        _out = _ToStandardLogging()


class _ToStandardLogging:
    def __init__(self) -> None:
        self._logger = logging.getLogger("sluice")

    def line(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            given = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
            self._logger.log(level, "%s %s", message, given)

    def flush(self) -> None:
        """Nothing waits here."""


class _FromLibraries(logging.Handler):
    """What uvicorn, asyncio and others say, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        _out.line(record.levelno, record.getMessage(), fields)


_NOWHERE = Lines(None, None)
_out: Lines | _ToStandardLogging = _NOWHERE
atexit.register(lambda: _out.flush())
