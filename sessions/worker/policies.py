"""`sessions.browser` of `policies.yaml`. It is read by every process, so nothing here needs a browser's libraries."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.config import parsers
from sluice.config.fields import Value, setting
from sluice.config.parsers import of
from sluice.config.problems import Malformed, quoted

AUTO = "auto"
_MAX_AT_ONCE = 16


def _at_once(value: Value) -> int:
    number = parsers.count(value)
    if not 1 <= number <= _MAX_AT_ONCE:
        raise Malformed(f"{number} is out of range", f"write 1 to {_MAX_AT_ONCE}: each start takes a core for seconds")
    return number


def _path(text: str) -> str:
    if text != AUTO and not text.startswith("/"):
        raise Malformed(f"{quoted(text)} is no absolute path", "write auto, or where it is, such as /usr/bin/chromium")
    return text


@dataclass(frozen=True, slots=True)
class BrowserPolicy:
    path: str = setting(of(_path), AUTO)
    """The executable; `auto`: the first of Chromium's usual names that is installed."""
    start_at_once: int | None = setting(_at_once, None)
    """Browsers of one worker that start at the same time at most, 1 to 16. None: one for each core."""
