from __future__ import annotations

import itertools
import os
import re

import pytest

from sluice.http.request_id import id_of, line_for, new_line

LINE = re.compile(rb"X-Request-Id: [0-9a-f]{24}\r\n")


def test_no_id_is_given_twice_and_none_tells_how_many_came_between() -> None:
    lines = [new_line() for _ in range(10_000)]
    assert len(set(lines)) == 10_000
    assert all(map(LINE.fullmatch, lines))
    numbers = [int(id_of(line)[16:], 16) for line in lines]
    assert not {after - before for before, after in itertools.pairwise(numbers)} & set(range(-9, 10))


def test_a_process_that_was_forked_counts_for_itself() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, new_line())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    assert LINE.fullmatch(theirs)
    assert theirs[:30] != new_line()[:30]


@pytest.mark.parametrize("given", [b"a", b"a" * 128, b"Root=1-67891233-ab;c".replace(b";", b":")])
def test_a_sound_id_is_kept(given: bytes) -> None:
    assert line_for(given) == b"X-Request-Id: " + given + b"\r\n"
    assert id_of(line_for(given)) == given.decode()


@pytest.mark.parametrize("given", [None, b"", b"a" * 129, b"a b", b"a\r\nb", b"<b>", b"\xc3\xbc", b"a;b"])
def test_any_other_is_replaced(given: bytes | None) -> None:
    assert LINE.fullmatch(line_for(given))


def test_without_a_line_there_is_no_id() -> None:
    assert id_of(b"") == ""
