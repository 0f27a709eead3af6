"""Zips that are kept for the GET that follows a start: not too many, not too large, not for long."""

from __future__ import annotations

import os
import tempfile

import pytest

from sessions.profiles import prepared
from sessions.profiles.generations import Generation
from sessions.profiles.prepared import PreparedZip, PreparedZips
from tests.waiting import until

pytestmark = pytest.mark.anyio


def a_zip(number: int = 1, size: int = 10) -> PreparedZip:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by what keeps it)
    file.write(b"x" * 10)
    file.flush()
    generation = Generation(number, 1, 0.0, 10, 10, 1, "", "", "", "", number)
    return PreparedZip(generation, number, (), file, size, "")


async def test_the_oldest_go_where_there_are_too_many_or_they_are_too_large() -> None:
    kept = PreparedZips()
    made = [a_zip() for _ in range(prepared.KEPT + 2)]
    for number, one in enumerate(made):
        kept.keep(f"s{number}", one)
    assert [kept.get(f"s{number}") is None for number in range(4)] == [True, True, False, False]
    assert [one.file.closed for one in made[:4]] == [True, True, False, False]
    kept.keep("large", a_zip(size=prepared.KEPT_BYTES - 10))
    assert [kept.get(f"s{number}") is None for number in range(prepared.KEPT + 2)].count(False) == 1
    kept.close()
    assert all(one.file.closed for one in made)


async def test_each_goes_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "KEPT_FOR", 0.05)
    kept, one = PreparedZips(), a_zip()
    kept.keep("s1", one)
    await until(lambda: kept.get("s1") is None)
    assert one.file.closed


async def test_a_newer_one_takes_the_place_of_another_and_who_reads_that_reads_on() -> None:
    kept, one, two = PreparedZips(), a_zip(1), a_zip(2)
    kept.keep("s1", one)
    number = one.descriptor()
    kept.keep("s1", two)
    assert kept.get("s1") is two
    assert one.file.closed
    assert os.pread(number, 100, 0) == b"x" * 10
    os.close(number)
    kept.close()
