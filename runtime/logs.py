"""JSON logs: one line per unit of work, on standard error; under `sluice up` in a file each, with only warnings shown.

`log.info("delivery.attempted", id=…, status=…, ms=…)`: the message is the event's name, the rest are fields. A field
whose name speaks of a secret is masked here, so that no caller can forget to.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson

_SECRET = re.compile(r"secret|token|password|signature|authorization|api_key", re.IGNORECASE)
_FIELDS = "sluice_fields"


class _JsonLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "msg": record.getMessage(),
        }
        for name, value in getattr(record, _FIELDS, {}).items():
            line[name] = "***" if _SECRET.search(name) else value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Log:
    """A named logger whose calls take fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"sluice.{name}")

    def info(self, message: str, **fields: Any) -> None:
        self._emit(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._emit(logging.WARNING, message, fields)

    def error(self, message: str, *, exception: BaseException | None = None, **fields: Any) -> None:
        self._emit(logging.ERROR, message, fields, exception)

    def _emit(self, level: int, message: str, fields: dict[str, Any], exception: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, extra={_FIELDS: fields}, exc_info=exception)


def start(process: str) -> None:
    """Sends every log of this process out as JSON lines; `process` names it (`gateway`, `relay`, …).

    With `SLUICE_LOGS` set, all of them go to `<process>.jsonl` in that folder, two files of 16 MiB at most, and only
    warnings and errors to standard error, where a supervisor shows them.
    """
    root = logging.getLogger()
    root.handlers = _handlers(process)
    for handler in root.handlers:
        handler.setFormatter(_JsonLines(process))
    root.setLevel(logging.WARNING)
    logging.getLogger("sluice").setLevel(logging.INFO)


def _handlers(process: str) -> list[logging.Handler]:
    shown: logging.Handler = logging.StreamHandler(sys.stderr)
    folder = os.environ.get("SLUICE_LOGS")
    if not folder:
        return [shown]
    shown.setLevel(logging.WARNING)
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = RotatingFileHandler(Path(folder) / f"{process}.jsonl", maxBytes=16 * 1024 * 1024, backupCount=1)
    return [shown, kept]
