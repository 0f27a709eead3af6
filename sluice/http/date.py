"""The Date of answers (RFC 9110 section 6.6.1), made once a second."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Final


class _Now:
    second = -1
    line = b""


_now: Final = _Now()


def date_line() -> bytes:
    """The whole field line."""
    second = int(time.time())
    if second != _now.second:
        _now.second, _now.line = second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
    return _now.line
