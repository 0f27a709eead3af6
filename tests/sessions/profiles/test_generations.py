"""Which generations there are: one step makes one the newest, and only the latest start may."""

from __future__ import annotations

import asyncio

import pytest

from sessions.profiles.generations import Generations, Written
from sluice.store.client import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def kept(store: Store) -> Generations:
    return Generations(store)


def written(number: int, content: str = "") -> Written:
    return Written(number, 1000 + number, 500, 3, "0a1b2c3d", "Chromium 156.0.8078.79", "leveldb", content)


async def save(kept: Generations, session: str, fence: int, *, keep: int = 3) -> list[int] | str:
    begun = await kept.begin(session, fence)
    if isinstance(begun, str):
        return begun
    return await kept.commit(session, fence, written(begun[1]), keep=keep)


async def numbers(kept: Generations, session: str) -> list[int]:
    profile = await kept.of(session)
    return [] if profile is None else [generation.number for generation in profile.generations]


async def test_nothing_is_known_of_a_session_that_was_never_saved(kept: Generations) -> None:
    assert await kept.of("s1") is None
    assert (await kept.claim("s1")).generations == ()


async def test_the_newest_generation_is_told_first_with_all_that_is_known_of_it(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    await save(kept, "s1", fence)
    profile = await kept.of("s1")
    assert profile is not None
    newest = profile.newest
    assert newest is not None
    assert (newest.number, newest.fence, newest.size, newest.stored, newest.chunks) == (2, fence, 1002, 500, 3)
    assert (newest.key, newest.browser, newest.backend) == ("0a1b2c3d", "Chromium 156.0.8078.79", "leveldb")
    assert [generation.number for generation in profile.generations] == [2, 1]


async def test_only_so_many_are_kept_and_what_is_dropped_is_told(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    assert [await save(kept, "s1", fence, keep=2) for _ in range(4)] == [[], [], [1], [2]]
    assert await numbers(kept, "s1") == [4, 3]


async def test_the_latest_start_wins(kept: Generations) -> None:
    first, second = (await kept.claim("s1")).fence, (await kept.claim("s1")).fence
    assert second > first
    assert await save(kept, "s1", first) == "stale"
    assert await kept.delete("s1", first) == "stale"
    assert await save(kept, "s1", second) == []


async def test_a_save_that_was_begun_before_another_start_is_stale(kept: Generations) -> None:
    first = (await kept.claim("s1")).fence
    begun = await kept.begin("s1", first)
    await kept.claim("s1")
    assert not isinstance(begun, str)
    assert await kept.commit("s1", first, written(begun[1]), keep=3) == "stale"
    assert await numbers(kept, "s1") == []


async def test_a_commit_whose_answer_was_lost_may_be_made_again(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    begun = await kept.begin("s1", fence)
    assert not isinstance(begun, str)
    for _ in range(2):
        assert await kept.commit("s1", fence, written(begun[1]), keep=3) == []
    assert await numbers(kept, "s1") == [1]


async def test_of_two_saves_under_one_fence_that_overlap_the_older_one_never_counts_last(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    older, newer = await kept.begin("s1", fence), await kept.begin("s1", fence)
    assert not isinstance(older, str)
    assert not isinstance(newer, str)
    assert await kept.commit("s1", fence, written(newer[1]), keep=3) == []
    assert await kept.commit("s1", fence, written(older[1]), keep=3) == "stale"
    assert await numbers(kept, "s1") == [2]


async def test_after_a_logout_nothing_is_saved_until_the_next_start(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    assert await kept.delete("s1", fence) is True
    assert await save(kept, "s1", fence) == "deleted"
    profile = await kept.of("s1")
    assert profile is not None
    assert profile.deleted is not None
    assert await numbers(kept, "s1") == [1], "for a while"


async def test_the_first_save_of_a_new_login_ends_the_deletion_and_what_was_before_it(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    await save(kept, "s1", fence)
    await kept.delete("s1", fence)
    again = await kept.claim("s1")
    assert again.deleted is not None, "whoever starts has to log in"
    assert await save(kept, "s1", again.fence) == [1, 2]
    profile = await kept.of("s1")
    assert profile is not None
    assert profile.deleted is None
    assert await numbers(kept, "s1") == [3]


async def test_a_deletion_can_be_taken_back(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    await kept.delete("s1", None)
    assert await kept.undelete("s1") is True
    assert await kept.undelete("s1") is False
    profile = await kept.of("s1")
    assert profile is not None
    assert profile.deleted is None
    assert await numbers(kept, "s1") == [1]


async def test_the_only_generation_of_a_session_is_not_dropped(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    await save(kept, "s1", fence)
    assert await kept.drop("s1", [1, 2]) == [1]
    assert await numbers(kept, "s1") == [2]
    assert await kept.erase("s1") == [2]
    assert await kept.of("s1") is None


async def test_a_number_is_never_given_twice(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    begun = await asyncio.gather(*(kept.begin("s1", fence) for _ in range(20)))
    assert sorted(one[1] for one in begun if not isinstance(one, str)) == list(range(1, 21))


async def test_sessions_are_told_in_pages(kept: Generations) -> None:
    for number in range(450):
        await kept.claim(f"s{number}")
    found: list[str] = []
    go_on = "0"
    while True:
        go_on, page = await kept.page(go_on)
        found += [profile.session for profile in page]
        if go_on == "0":
            break
    assert sorted(set(found)) == sorted(f"s{number}" for number in range(450))
