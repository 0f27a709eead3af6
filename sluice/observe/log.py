"""JSON logs: one line per unit of work, on standard error; under `sluice up` in a file each, with only warnings shown.

Section `log` of the policies says how large the files are, how many, and whether standard output is wanted instead.

`log.info("delivery.attempted", id=…, status=…, ms=…)`: the message is the event's name, the rest are fields. A field
that is absent and one that is null say the same: there is none. What becomes of a line: `sluice/observe/log_lines.py`.
"""

from __future__ import annotations

import atexit
import logging
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.observe.log_lines import Lines, capped, cut, masked
from sluice.observe.log_outputs import LogFile, Stream
from sluice.observe.printable import on_one_line, printable

if TYPE_CHECKING:
    from sluice.config import LogPolicy

FOLDER = "SLUICE_LOGS"
"""In the environment: the folder for the files of every process, whatever the policies say."""


class Log:
    """A named source of lines. Until `start` was called nothing is written."""

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, message: str, **fields: Any) -> None:
        _out.line(logging.INFO, message, fields)

    def line(self, message: str, fields: dict[str, Any]) -> None:
        """As `info`, a quarter cheaper: for what is said of every request."""
        _out.line(logging.INFO, message, fields)

    def text(self, line: bytes) -> None:
        """A line that is not JSON, in printable ASCII, without its end: in files it goes to `<process>.access.log`."""
        _out.text(line)

    def warning(self, message: str, **fields: Any) -> None:
        _out.line(logging.WARNING, message, fields)

    def error(self, message: str, *, exception: BaseException | None = None, **fields: Any) -> None:
        if exception is not None:
            fields["exception"] = "".join(traceback.format_exception(exception))
        _out.line(logging.ERROR, message, fields)


def start(process: str, policy: LogPolicy | None = None, folder: Path | None = None) -> None:
    """Sends every log of this process out as JSON lines; `process` names it (`gateway`, `relay`, …).

    To files in `folder` where the policy says so, with warnings and errors on standard error too, where a supervisor
    reads them; to standard output; or, where it says nothing, to standard error. `SLUICE_LOGS` in the environment is a
    folder that counts instead.
    """
    global _out
    _out.flush()
    given = os.environ.get(FOLDER)
    to = "files" if given else policy.to if policy else None
    if given:
        folder = Path(given)
    if to == "files" and folder is not None:
        _files[:] = [LogFile(folder / f"{process}.jsonl"), LogFile(folder / f"{process}.access.log", begins_late=True)]
        _out = Lines(process, *_files, shows_warnings=True)
    elif to == "stdout":
        _out = Lines(process, Stream(1), shows_warnings="SLUICE_SUPERVISED" in os.environ)
    else:
        _out = Lines(process, Stream(2))
    if policy is not None:
        apply(policy)
    root = logging.getLogger()
    root.handlers = [_FromLibraries()]
    root.setLevel(logging.WARNING)


def apply(policy: LogPolicy) -> None:
    """What an edit of the policies changes while the process runs."""
    for file in _files:
        file.size, file.files = policy.size, policy.files


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
            given = {name: value for name, value in capped(masked(fields)).items() if value is not None}
            shown = on_one_line(" ".join(f"{name}={value}" for name, value in given.items() if name != "exception"))
            trace = f"\n{printable(str(given['exception']))}" if "exception" in given else ""
            self._logger.log(level, "%s %s%s", on_one_line(cut(message)), shown, trace)

    def text(self, line: bytes) -> None:
        self._logger.info("%s", line.decode())

    def flush(self) -> None:
        """Nothing waits here."""


class _FromLibraries(logging.Handler):
    """What uvicorn, asyncio and others say, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        _out.line(record.levelno, record.getMessage(), fields)


_NOWHERE = Lines(None)
_files: list[LogFile] = []
_out: Lines | _ToStandardLogging = _NOWHERE
atexit.register(lambda: _out.flush())
