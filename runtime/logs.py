"""JSON logs: one line per unit of work, on standard error.

`log.info("delivery.attempted", id=…, status=…, ms=…)`: the message is the event's name, the rest are fields. A field
whose name speaks of a secret is masked here, so that no caller can forget to.
"""

from __future__ import annotations

import logging
import re
import sys
import time
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
    """Sends every log of this process to standard error as JSON lines; `process` names it (`gateway`, `relay`, …)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(process))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sluice").setLevel(logging.INFO)
