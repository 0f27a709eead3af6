"""The head of a response, as strictly as it has to be read, and as leniently as it may be (RFC 9112)."""

from __future__ import annotations

import re
from typing import Final

from sluice.http.errors import BadField, BadFraming
from sluice.http.fields import Fields, read_fields
from sluice.process.cache import Cache

MAX_FIELDS: Final = 256
MAX_HEAD: Final = 64 * 1024
"""Bytes of a head, interim heads included; and of what chunks may carry besides data between two pieces of it."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [\t -~\x80-\xff]*)?")  # RFC 9112 section 4
_LOOSE_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9])[ \t]+([0-9]{3})(?:[ \t][\t -~\x80-\xff]*)?")
_BEGINNING: Final = b"HTTP/1."
_ANY_END: Final = re.compile(rb"\n\r?\n")
_BEFORE_COLON: Final = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]+:")
_NO_FIELDS: Final = Fields([])
_statuses: Final[Cache[bytes, tuple[int, bool]]] = Cache(64 * 2**10)


def read_head(data: bytes, before: int) -> tuple[int, bool, Fields, int]:
    """Status, whether it is HTTP/1.1 and not 1.0, fields, and where the head ends in these bytes.

    Status 0: it has not all come yet, and the bytes are to be given again with those that follow. `before`: the bytes
    of interim heads that came earlier. Raises BadField or BadFraming.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or end > MAX_HEAD - before:
        return _read_leniently(data, before)
    try:
        line, _, block = data[:end].partition(b"\r\n")
        status, current = _statuses.get(line) or _status_of(line, _STATUS_LINE)
        fields = read_fields(block)
    except (BadField, BadFraming):
        return _read_leniently(data, before)
    if len(fields.all) > MAX_FIELDS:
        raise BadFraming("over 256 fields")
    return status, current, fields, end + 4


def _read_leniently(data: bytes, before: int) -> tuple[int, bool, Fields, int]:
    """What a recipient may take for a head though it is not written as one: lines that end with LF alone, blanks before
    a colon, folded lines, more than one blank in the status line (RFC 9112 sections 2.2, 4, 5.1, 5.2). It is passed on
    as it should have been written. The last number: where the head ends in these bytes."""
    found = None if data.count(b"\n") == data.count(b"\r\n") and b"\r\n\r\n" not in data else _ANY_END.search(data)
    end = len(data) if found is None else found.start()
    if end > MAX_HEAD - before:
        raise BadFraming("the head is over 64 KiB")
    if found is None:
        if not data.startswith(_BEGINNING[: len(data)]):
            raise BadFraming("it does not begin with HTTP/1.1")
        return 0, False, _NO_FIELDS, 0
    lines = [line.removesuffix(b"\r") for line in data[:end].split(b"\n")]
    status, current = _status_of(lines[0], _LOOSE_STATUS_LINE)
    unfolded: list[bytes] = []
    for line in lines[1:]:
        if unfolded and line.startswith((b" ", b"\t")):
            unfolded[-1] += b" " + line.strip(b" \t")
        else:
            unfolded.append(_BEFORE_COLON.sub(rb"\1:", line))
    if len(unfolded) > MAX_FIELDS:
        raise BadFraming("over 256 fields")
    return status, current, read_fields(b"\r\n".join(unfolded)), found.end()


def _status_of(line: bytes, grammar: re.Pattern[bytes]) -> tuple[int, bool]:
    """Raises BadFraming."""
    read = grammar.fullmatch(line)
    if read is None:
        raise BadFraming("it does not begin with HTTP/1.1 and a status")
    status = int(read[2])
    if status < 100 or status == 101:
        raise BadFraming("switching protocols was not asked for" if status == 101 else "a status below 100")
    return _statuses.keep(line, (status, read[1] != b"0"), len(line))
