"""Which generations there are: one step makes one the newest, and only the latest start may."""

from __future__ import annotations

import asyncio

import pytest

from sessions.profiles.generations import KEYS, Generation, Generations, Written
from sluice.store.client import Store
from tests.waiting import until

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
    return await kept.commit(session, fence, written(begun), keep=keep)


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
    assert await kept.commit("s1", first, written(begun), keep=3) == "stale"
    assert await numbers(kept, "s1") == []


async def test_a_commit_whose_answer_was_lost_may_be_made_again(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    begun = await kept.begin("s1", fence)
    assert not isinstance(begun, str)
    for _ in range(2):
        assert await kept.commit("s1", fence, written(begun), keep=3) == []
    assert await numbers(kept, "s1") == [1]


async def test_of_two_saves_under_one_fence_that_overlap_the_older_one_never_counts_last(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    older, newer = await kept.begin("s1", fence), await kept.begin("s1", fence)
    assert not isinstance(older, str)
    assert not isinstance(newer, str)
    assert await kept.commit("s1", fence, written(newer), keep=3) == []
    assert await kept.commit("s1", fence, written(older), keep=3) == "stale"
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


async def test_after_a_logout_of_a_start_that_goes_on_only_what_is_begun_from_then_on_is_saved(
    kept: Generations,
) -> None:
    older, fence = (await kept.claim("s1")).fence, (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    begun = await kept.begin("s1", fence)
    assert not isinstance(begun, str)
    assert await kept.delete("s1", older, goes_on=True) == "stale"
    for _ in range(2):
        assert await kept.delete("s1", fence, goes_on=True) is True
    assert await kept.commit("s1", fence, written(begun), keep=3) == "stale"
    assert await numbers(kept, "s1") == [1], "for a while"
    assert await save(kept, "s1", older) == "stale"
    assert await save(kept, "s1", fence) == [1]
    profile = await kept.of("s1")
    assert profile is not None
    assert profile.deleted is None


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


async def test_a_number_is_never_given_twice(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    begun = await asyncio.gather(*(kept.begin("s1", fence) for _ in range(20)))
    assert sorted(one for one in begun if not isinstance(one, str)) == list(range(1, 21))


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


async def test_what_shares_chunks_with_a_generation_that_is_kept_no_more_does_not_count(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    base = await newest(kept, "s1")
    begun = await kept.begin("s1", fence)
    assert not isinstance(begun, str)
    await kept.claim("s2")
    dropping = await kept.begin("s1", fence)
    assert not isinstance(dropping, str)
    assert await kept.drop("s1", [1]) == [], "the only one"
    await kept.delete("s1", None)
    assert await kept.drop("s1", [1]) == [1]
    fence = (await kept.claim("s1")).fence
    assert await kept.commit("s1", fence, written(begun), keep=3, on=base) == "moved"
    assert await numbers(kept, "s1") == []
    assert await kept.commit("s1", fence, written(begun), keep=3) == []


async def test_the_time_of_a_generation_is_renewed_while_it_is_the_newest(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    first = await newest(kept, "s1")

    async def is_later() -> bool:
        assert await kept.renew("s1", fence, first) is True
        return (await newest(kept, "s1")).made > first.made

    await until(is_later)
    assert await numbers(kept, "s1") == [1]
    await save(kept, "s1", fence)
    assert await kept.renew("s1", fence, first) is False
    stale = fence
    fence = (await kept.claim("s1")).fence
    assert await kept.renew("s1", stale, await newest(kept, "s1")) == "stale"
    await kept.delete("s1", fence)
    assert await kept.renew("s1", fence, await newest(kept, "s1")) == "deleted"
    again = (await kept.claim("s1")).fence
    assert await kept.renew("s1", again, await newest(kept, "s1")) is False, "a new login is a new generation"


async def sized(kept: Generations, *sizes: int, keep: int = 2) -> list[int]:
    """The sizes that are kept, newest first, after such saves."""
    fence = (await kept.claim("s1")).fence
    for size in sizes:
        begun = await kept.begin("s1", fence)
        assert not isinstance(begun, str)
        values = Written(begun, size, 500, 3, "0a1b2c3d")
        assert isinstance(await kept.commit("s1", fence, values, keep=keep), list)
    profile = await kept.of("s1")
    assert profile is not None
    return [one.size for one in profile.generations]


async def test_a_generation_of_which_all_newer_ones_have_less_than_a_quarter_is_kept(kept: Generations) -> None:
    assert await sized(kept, 1000, 1000, 249, 249, 249) == [249, 249, 1000]
    profile = await kept.of("s1")
    assert profile is not None
    assert profile.last_good is not None
    assert profile.last_good.size == 1000
    assert await kept.drop("s1", [profile.last_good.number]) == [profile.last_good.number], "a person says so"


async def test_once_a_newer_one_is_like_it_the_older_ones_go(kept: Generations) -> None:
    assert await sized(kept, 1000, 200, 200, 250, 260) == [260, 250]
    profile = await kept.of("s1")
    assert profile is not None
    assert profile.last_good is None


async def test_also_where_only_one_is_kept_a_small_one_does_not_push_out_the_good_one(kept: Generations) -> None:
    assert await sized(kept, 1000, 10, 20, keep=1) == [20, 1000]


async def test_a_new_login_is_small_and_the_old_one_goes_all_the_same(kept: Generations) -> None:
    await sized(kept, 1000, 1000)
    await kept.delete("s1", None)
    assert await sized(kept, 10) == [10]


async def test_what_was_begun_long_ago_and_never_counted_never_will(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    begun = await kept.begin("s1", fence)
    assert not isinstance(begun, str)
    profile = await kept.of("s1")
    assert profile is not None
    assert profile.begun_at is not None
    assert await kept.settle("s1", begun_for=60.0) is False
    assert await kept.settle("s1", begun_for=0.0) is True
    assert await kept.settle("s1", begun_for=0.0) is False
    assert await kept.commit("s1", fence, written(begun), keep=3) == "stale"
    assert await save(kept, "s1", fence) == []


async def test_a_session_is_forgotten_when_nothing_is_left_of_it_and_its_old_starts_save_nothing(
    kept: Generations,
) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    assert await kept.forget("s1") is False
    await kept.delete("s1", None)
    assert await kept.forget("s1") is False, "a generation is left"
    await kept.drop("s1", [1])
    assert await kept.forget("s1") is True
    assert await kept.of("s1") is None
    assert await save(kept, "s1", fence) == "deleted"
    assert await save(kept, "s1", (await kept.claim("s1")).fence) == []


async def test_a_session_is_not_forgotten_while_something_is_written_for_it(kept: Generations) -> None:
    await kept.claim("s1")
    await kept.delete("s1", None)
    again = (await kept.claim("s1")).fence
    begun = await kept.begin("s1", again)
    assert not isinstance(begun, str)
    assert await kept.forget("s1") is False
    assert await kept.commit("s1", again, written(begun), keep=3) == []


async def test_a_fence_that_nobody_was_given_is_refused(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    assert await kept.begin("s1", fence + 2 * 3600 * 10**6) == "stale"
    assert await kept.delete("s1", fence + 2 * 3600 * 10**6) == "stale"


async def test_a_start_that_the_store_has_lost_counts_all_the_same(kept: Generations, store: Store) -> None:
    """A failover, or a crash of the machine, may take the last second with it."""
    await save(kept, "s1", (await kept.claim("s1")).fence)
    (record, last) = await store.commands(("HGET", KEYS[0], "s1"), ("GET", KEYS[1]))
    older = (await kept.claim("s1")).fence
    await store.commands(("HSET", KEYS[0], "s1", record), ("SET", KEYS[1], last))
    newer = (await kept.claim("s1")).fence
    assert newer > older
    await store.commands(("HSET", KEYS[0], "s1", record), ("SET", KEYS[1], last))
    assert await kept.delete("s1", newer) is True
    assert await save(kept, "s1", newer) == "deleted"
    assert await save(kept, "s1", older) == "stale"


async def test_a_generation_that_is_sealed_anew_stays_where_it_was_and_disturbs_nobody(kept: Generations) -> None:
    fence = (await kept.claim("s1")).fence
    await save(kept, "s1", fence)
    await save(kept, "s1", fence)
    second = await newest(kept, "s1")
    under = await kept.begin("s1", None)
    assert not isinstance(under, str)
    for _ in range(2):
        assert await kept.resealed("s1", second, under, "ffffffff", 700) is True
    after = await newest(kept, "s1")
    assert (after.number, after.fence, after.made, after.key, after.under) == (2, fence, second.made, "ffffffff", 3)
    assert await numbers(kept, "s1") == [2, 1]
    assert await save(kept, "s1", fence) == []
    late = await kept.begin("s1", None)
    assert not isinstance(late, str)
    await save(kept, "s1", fence)
    assert await kept.resealed("s1", await newest(kept, "s1"), late, "ffffffff", 700) is False


async def newest(kept: Generations, session: str) -> Generation:
    profile = await kept.of(session)
    assert profile is not None
    assert profile.newest is not None
    return profile.newest
