"""Lines of JSON on their way out: the part of `sluice/observe/log.py` that every request and delivery passes through.

A field whose name speaks of a secret is masked here, and one that is long is cut, so that no caller can forget to: what
strangers write must not turn the log over.

Lines are written together, ten times a second, because a gateway writes thousands of them: what a `kill -9` may cost is
the last tenth of a second of `info`. Warnings and errors are written at once. Where they go, and what can happen to a
file or a stream: `sluice/observe/log_outputs.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from typing import Any, Final, Protocol

import orjson

from sluice.observe.metrics import counts, recent
from sluice.observe.printable import printable_json

MAX_TEXT: Final = 1024
"""Characters of a field."""
MAX_LONG_TEXT: Final = 16 * 1024
"""Characters of an exception, of which the end says what and where, and of a line that another log could not take."""
_MAX_ITEMS, _MAX_ITEM = 32, 256
_SECRET: Final = re.compile(r"secret|token|password|signature|authorization|api_key", re.IGNORECASE)
_TOGETHER_FOR: Final = 0.1
_MAX_BATCH: Final = 64 * 1024
_MAX_NAMES: Final = 1000
_HEAD: Final = frozenset(("at", "level", "process", "msg"))
_SHOWN_FROM: Final = logging.WARNING
_INFO: Final = b'Z","level":"info"'
_LEVELS: Final = {
    logging.INFO: _INFO,
    logging.WARNING: b'Z","level":"warning"',
    logging.ERROR: b'Z","level":"error"',
    logging.CRITICAL: b'Z","level":"error"',
    logging.DEBUG: b'Z","level":"debug"',
}
_time: Final = time.time
_dumps: Final = orjson.dumps
_ENDED: Final = orjson.OPT_APPEND_NEWLINE
_MILLISECONDS: Final = [b"%03d" % ms for ms in range(1000)]
_LOST: Final = counts("sluice_log_writes_failed_total", "Batches of log lines that could not be written.", [])
recent(_LOST, "sluice_log_writes_failed_total", [])


class Output(Protocol):
    """Where lines are written."""

    unsent: bool
    """Some are kept to be written later: `write` is to be called again soon, if only with nothing."""

    def write(self, lines: bytes | bytearray) -> None:
        """Raises OSError where some were lost."""


class Lines:
    """The lines of this process, on their way to `output`. Used from one thread only.

    `process` None: nobody wants them. `texts`: where lines go that have a form of their own; None: between the others.
    `shows_warnings`: on standard error too, where a supervisor reads them.
    """

    def __init__(
        self,
        process: str | None,
        output: Output | None = None,
        texts: Output | None = None,
        *,
        shows_warnings: bool = False,
    ) -> None:
        self._process = process
        self._output = output
        self._texts_output = texts
        self._shows_warnings = shows_warnings
        self._second = 0
        self._at = b""  # the beginning of each line of that second
        self._named = b',"process":%b,"msg":' % orjson.dumps(process)
        self._waiting = bytearray()  # one piece that grows: a list of small ones costs six times as much to keep
        self._texts = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def line(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if self._process is None:
            return
        moment = int(_time() * 1000)
        second = moment // 1000
        if second != self._second:
            self._second, self._at = second, _at(second)
        ms = _MILLISECONDS[moment - 1000 * second]
        if tuple(fields) not in _plain:
            fields = _looked_at(fields)
        message_json, rest = _written(message, fields)
        if len(rest) > MAX_TEXT or len(message_json) > MAX_TEXT:
            message_json, rest = _written(cut(message), capped(fields))
        comma = b"," if fields else b""
        level_json = _LEVELS.get(level, _INFO)
        text = b"%b%b%b%b%b%b%b" % (self._at, ms, level_json, self._named, message_json, comma, rest[1:])
        self._waiting += text
        if level >= _SHOWN_FROM:
            self.flush()
            if self._shows_warnings:
                with contextlib.suppress(OSError):
                    os.write(2, _printable(text))
        elif len(self._waiting) > _MAX_BATCH:
            self.flush()
        elif self._timer is None:
            self._flush_soon()

    def text(self, line: bytes) -> None:
        """A line as it is, without its end; only characters that can be printed."""
        if self._process is None:
            return
        waiting = self._waiting if self._texts_output is None else self._texts
        waiting += line
        waiting += b"\n"
        if len(waiting) > _MAX_BATCH:
            self.flush()
        elif self._timer is None:
            self._flush_soon()

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unsent = False
        if self._output is not None:
            batch, self._waiting = self._waiting, bytearray()
            unsent = _write(self._output, _printable(batch))
        if self._texts_output is not None and self._texts:
            texts, self._texts = self._texts, bytearray()
            unsent = _write(self._texts_output, texts) or unsent
        if unsent:
            self._flush_soon(again=True)

    def _flush_soon(self, *, again: bool = False) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER_FOR, self.flush)
        except RuntimeError:
            if not again:
                self.flush()


def _write(output: Output, batch: bytes | bytearray) -> bool:
    """Whether some of it is kept for later."""
    if batch or output.unsent:
        try:
            output.write(batch)
        except OSError:  # a full disk or a reader that is gone must not end the work
            _LOST.add()
    return output.unsent


def _written(message: str, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    try:
        return _dumps(message), _dumps(fields, str, _ENDED)
    except TypeError:  # half a surrogate pair, an integer of more than 64 bits: nothing that JSON has
        plain = {name: ascii(value) for name, value in fields.items()}
        return _dumps(ascii(message)), _dumps(plain, None, _ENDED)


def cut(text: str, most: int = MAX_TEXT) -> str:
    """The beginning of a text that is longer than `most` characters, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def capped(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields, none of which is long."""
    return {name: _capped_field(name, value) for name, value in fields.items()}


def _capped_field(name: str, value: Any) -> Any:
    if name == "exception" and isinstance(value, str) and len(value) > MAX_LONG_TEXT:
        return f"({len(value)} characters) …{value[len(value) - MAX_LONG_TEXT :]}"
    return _capped(value, MAX_LONG_TEXT if name in ("exception", "line") else MAX_TEXT, 3)


def _capped(value: Any, most: int, depth: int) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    if depth and isinstance(value, dict):
        return {cut(str(name), most): _capped(one, _MAX_ITEM, depth - 1) for name, one in [*value.items()][:_MAX_ITEMS]}
    if depth and isinstance(value, (list, tuple)):
        more = [f"… ({len(value)} items)"] if len(value) > _MAX_ITEMS else []
        return [_capped(one, _MAX_ITEM, depth - 1) for one in value[:_MAX_ITEMS]] + more
    return cut(str(value), most)


def _printable(lines: bytes | bytearray) -> bytes | bytearray:
    """Nearly all are ASCII, in which JSON leaves nothing but DEL unescaped."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return printable_json(lines.decode()).encode()


def _at(second: int) -> bytes:
    """The head of a line, up to its milliseconds."""
    return time.strftime('{"at":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second)).encode()


_plain: Final[set[tuple[str, ...]]] = set()
"""Names of fields as they come together, none of which speaks of a secret, or is in the head of a line already."""


def _looked_at(fields: dict[str, Any]) -> dict[str, Any]:
    """With what is secret masked; a name that the head of the line has already gets a `_`."""
    if not any(_SECRET.search(name) or name in _HEAD for name in fields) and len(_plain) < _MAX_NAMES:
        _plain.add(tuple(fields))
    return {f"{name}_" if name in _HEAD else name: value for name, value in masked(fields).items()}


def masked(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what fields say whose names speak of a secret."""
    return {name: "***" if _SECRET.search(name) else value for name, value in fields.items()}
