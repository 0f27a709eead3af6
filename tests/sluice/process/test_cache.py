"""What is kept of foreign input is bounded in bytes, not in entries."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from sluice.process.cache import ENTRY, Cache, Latest

LIMIT = 2**20


def filled(keep: Callable[[bytes, bytes, int], object], size: int) -> int:
    """Bytes that are held after three times the limit has been kept, by keys of `size` bytes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(max(40, 3 * LIMIT // (2 * size + ENTRY))):
            key = b"%0*d" % (size, n)
            keep(key, key[1:], 2 * size)
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [8, 200, 4_000, 30_000])
@pytest.mark.parametrize("kind", [Cache, Latest])
def test_however_long_the_keys_are_no_more_than_the_limit_is_held(
    kind: type[Cache[bytes, bytes] | Latest[bytes, bytes]], size: int
) -> None:
    cache = kind(LIMIT)
    assert filled(cache.keep, size) < 1.1 * LIMIT
    assert 0 < cache.used <= LIMIT


@pytest.mark.parametrize("kind", [Cache, Latest])
def test_what_would_take_everybodys_place_is_not_kept(kind: type[Cache[str, str] | Latest[str, str]]) -> None:
    cache = kind(LIMIT)
    cache.keep("usual", "known", 10)
    cache.keep("large", "unknown", LIMIT // 10)
    assert (cache.get("usual"), cache.get("large")) == ("known", None)


def test_a_cache_gives_back_what_it_was_given_and_is_emptied_when_it_is_used_up() -> None:
    cache: Cache[int, str] = Cache(LIMIT)
    known = cache.known
    assert cache.keep(0, "first", 50_000) == "first" == cache.get(0)
    for n in range(1, 30):
        cache.keep(n, "other", 50_000)
    assert (cache.get(0), cache.get(29)) == (None, "other")
    assert cache.known is known  # whoever looks into it goes on doing so


def test_of_what_was_learned_the_oldest_goes_first_and_what_was_renewed_is_not_the_oldest() -> None:
    latest: Latest[int, str] = Latest(LIMIT)
    gone = []
    for n in range(30):
        gone += latest.keep(n, f"value {n}", 50_000)
        latest.renew(0)
    assert gone == list(range(1, 1 + len(gone)))
    assert len(gone) == 10
    assert (latest.get(0), latest.get(1), latest.get(29), len(latest)) == ("value 0", None, "value 29", 20)


def test_what_is_learned_again_counts_once_and_what_is_dropped_counts_no_more() -> None:
    latest: Latest[str, int] = Latest(LIMIT)
    for n in range(100):
        latest.keep("same", n, 50_000)
    assert (latest.get("same"), len(latest)) == (99, 1)
    assert latest.drop("same") == 99
    assert latest.drop("same") is None
    assert (latest.used, len(latest)) == (0, 0)
