"""The head of a response, as strictly as it has to be read (RFC 9112)."""

from __future__ import annotations

import re

from sluice.http.errors import BadFraming
from sluice.http.fields import Fields, read_fields
from sluice.process.cache import Cache

MAX_FIELDS = 256
MAX_HEAD = 64 * 1024
"""Bytes of a head, interim heads included; and of what chunks may carry besides data between two pieces of it."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [\t -~\x80-\xff]*)?")  # RFC 9112 section 4
_BEGINNING = b"HTTP/1."
_NO_FIELDS = Fields([])
_statuses: Cache[bytes, tuple[int, bool]] = Cache(64 * 2**10)


def read_head(data: bytes, interim: int) -> tuple[int, bool, Fields, bytes, int]:
    """Status, whether it is HTTP/1.1 and not 1.0, fields, the bytes after the head, and those of interim heads so far.

    Status 0: it has not all come yet, and the bytes are to be given again with those that follow. Heads of 1xx are
    passed over; `interim` is what was passed over before. Raises BadField or BadFraming.
    """
    while data:
        end = data.find(b"\r\n\r\n")
        if interim + (len(data) if end < 0 else end) > MAX_HEAD:
            raise BadFraming("too long a head")
        if end < 0:
            if not data.startswith(_BEGINNING[: len(data)]) or data.count(b"\n") != data.count(b"\r\n"):
                raise BadFraming("not HTTP/1.1")
            break
        line, _, block = data[:end].partition(b"\r\n")
        status, current = _statuses.get(line) or _status_of(line)
        fields = read_fields(block)
        data = data[end + 4 :]
        if status >= 200:
            if len(fields.all) > MAX_FIELDS:
                raise BadFraming("too many fields")
            return status, current, fields, data, interim
        interim += end + 4
    return 0, False, _NO_FIELDS, data, interim


def _status_of(line: bytes) -> tuple[int, bool]:
    """Raises BadFraming."""
    read = _STATUS_LINE.fullmatch(line)
    if read is None:
        raise BadFraming("not HTTP/1.1")
    status = int(read[2])
    if status < 100 or status == 101:
        raise BadFraming("switching protocols was not asked for" if status == 101 else "invalid status")
    return _statuses.keep(line, (status, read[1] == b"1"), len(line))
