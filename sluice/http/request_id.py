"""Ids of requests: by one of them a person finds a request in the logs of a proxy, of the gateway and of Laravel.

One that a trusted proxy gives is kept. Ours are 24 hex digits: eight random bytes of the process, and a number that no
other request of the process gets until four billion have come.
"""

from __future__ import annotations

import os
import re
import secrets
from binascii import hexlify
from typing import Final

NAME: Final = b"X-Request-Id"
_SANE: Final = re.compile(rb"[A-Za-z0-9._~:/+=@,-]{1,128}")
_STEP: Final = 0x9E3779B1
_NUMBERS: Final = 0xFFFFFFFF
"""Numbers that follow each other look unlike each other: they do not tell a client how many others came between."""


class _Ours:
    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._start = b"%b: %b" % (NAME, secrets.token_hex(8).encode())
        self._number = secrets.randbits(32)

    def line(self) -> bytes:
        number = self._number = (self._number + _STEP) & _NUMBERS
        return self._start + hexlify(number.to_bytes(4, "big")) + b"\r\n"


_ours: Final = _Ours()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ours.begin)  # else processes of a server that forks would count alike


def new_line() -> bytes:
    """The field line of an id that nobody else has."""
    return _ours.line()


def line_for(given: bytes | None) -> bytes:
    """The field line of the id that a trusted proxy gave, if it is sound, or of a new one."""
    if given is not None and _SANE.fullmatch(given):
        return b"%b: %b\r\n" % (NAME, given)
    return _ours.line()


def id_of(line: bytes) -> str:
    """The id that a field line says; empty where there is no line."""
    return line[14:-2].decode() if line else ""
