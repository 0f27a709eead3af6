"""JSON from outside stops the event loop for a bounded time, whatever is in it."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from sluice.http import lenient_json
from sluice.http.foreign_json import MAX_VALUES, TooManyValues, loads, refuse_many

LARGE = 32 * 2**20
MEDIA = b'{"session_id":"s1","media":"%b"}' % (b"QUJD" * (LARGE // 4))
DENSE = {
    "objects": b"[" + b"{}," * (LARGE // 3) + b"{}]",
    "numbers": b"[" + b"1," * (LARGE // 2) + b"1]",
    "nested lists": b"[" + (b"[" * 500 + b"]" * 500 + b",") * (LARGE // 1001) + b"1]",
    "members": b"{" + b",".join(b'"%x":1' % n for n in range(LARGE // 12)) + b"}",
    "brackets alone": b"[" * LARGE,
    "commas alone": b"," * LARGE,
}
WRONG = {
    "backslashes": b'["' + b"\\" * LARGE,
    "halves of characters": b'["%b"]' % (rb"\ud83d" * (LARGE // 6)),
    "bytes that are no UTF-8": b'["%b"]' % (b"\xff" * LARGE),
    "numbers that are infinite": b"[" + b"1e9999," * 200_000 + b"1]",
    "a text that has no end": b'["' + b"a" * LARGE,
}


def seconds(read: object, body: bytes) -> float:
    """Of this process: others may have the core meanwhile."""
    begin = time.process_time()
    with pytest.raises(ValueError, match="."):
        read(body)  # type: ignore[operator]
    return time.process_time() - begin


@pytest.mark.parametrize("what", DENSE)
def test_what_has_too_many_values_is_refused_before_they_are_made(what: str) -> None:
    tracemalloc.start()
    try:
        assert seconds(loads, DENSE[what]) < 0.1
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(TooManyValues, match=r"^it has over 250,000 values$"):
        lenient_json.loads(DENSE[what])


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_not_mended_at_any_price(what: str) -> None:
    assert seconds(lenient_json.loads, WRONG[what]) < 0.3


def test_a_large_text_is_read() -> None:
    begin = time.process_time()
    assert loads(MEDIA)["session_id"] == "s1"
    assert time.process_time() - begin < 0.3


@pytest.mark.parametrize("n", [0, 1, MAX_VALUES - 2])
def test_as_many_values_as_are_read_are_read(n: int) -> None:
    body = json.dumps([{}] * (n // 2)).encode()
    assert len(loads(body)) == n // 2


def test_the_most_values_that_are_read_take_a_bounded_time() -> None:
    body = b"[" + b"{}," * (MAX_VALUES // 2 - 2) + b"{}]"
    begin = time.process_time()
    loads(body)
    assert time.process_time() - begin < 0.3


def test_the_number_of_values_that_are_read_can_be_smaller() -> None:
    refuse_many(b"[1,2,3]", 10)
    with pytest.raises(TooManyValues, match=r"^it has over 3 values$"):
        refuse_many(b"[1,2,3,4]", 3)
