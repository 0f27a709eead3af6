from __future__ import annotations

import asyncio
import dataclasses

import pytest

from relay.queue.codec import Delivery, new_id
from relay.queue.dead_letters import DeadLetters
from relay.queue.errors import BacklogFull
from relay.queue.queue import Queue, Settlement
from relay.queue.suspects import SUSPECT
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def queue(store: Store) -> Queue:
    return Queue(store, "laravel", lease=30.0, max_bytes=1_000_000, max_events=1000)


@pytest.fixture
def dead(store: Store) -> DeadLetters:
    return DeadLetters(store, "laravel")


async def lease(queue: Queue, want: int = 100, settled: list[Settlement] | None = None) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll(settled or [], want)).leased


async def lease_one(queue: Queue) -> Delivery:
    (delivery,) = await lease(queue)
    return delivery


async def test_what_went_in_comes_out_byte_for_byte(queue: Queue) -> None:
    body = bytes(range(256)) * 3
    given = event(body=body, target=b"/a%2Fb?x=%00&\xff", headers=((b"X-Two", b"1"), (b"X-Two", b"\xe9")))
    await accept(queue, given)
    leased = await lease_one(queue)
    assert (leased.id, leased.body, leased.target, leased.headers) == (given.id, body, given.target, given.headers)
    assert leased.attempt == 1


async def test_only_the_head_of_a_session_is_leased_and_the_next_one_after_it_is_settled(queue: Queue) -> None:
    events = [event(body=b"%d" % i) for i in range(3)]
    for one in events:
        await accept(queue, one)
    bodies = []
    settled: list[Settlement] = []
    for _ in range(3):
        (leased,) = await lease(queue, settled=settled)
        bodies.append(leased.body)
        settled = [Settlement(leased, "delivered")]
    assert bodies == [b"0", b"1", b"2"]
    assert await lease(queue, settled=settled) == []
    assert (await queue.counts()).delivered == 3


async def test_sessions_do_not_wait_for_each_other(queue: Queue) -> None:
    for session in ("a", "b", "c"):
        await accept(queue, event(session))
    assert {d.session for d in await lease(queue)} == {"a", "b", "c"}


async def test_events_without_a_session_wait_for_nobody(queue: Queue) -> None:
    for _ in range(3):
        await accept(queue, event(None))
    assert len(await lease(queue)) == 3


async def test_a_failed_delivery_holds_its_session_until_its_delay_is_over(queue: Queue) -> None:
    await accept(queue, event(body=b"first"))
    await accept(queue, event(body=b"second"))
    first = await lease_one(queue)
    assert await lease(queue, settled=[Settlement(first, "retry", 50)]) == []
    again: list[Delivery] = []

    async def leased_again() -> bool:
        again.extend(await lease(queue))
        return bool(again)

    await until(leased_again)
    assert (again[0].body, again[0].attempt) == (b"first", 2)


async def test_what_is_put_back_has_spent_no_attempt(queue: Queue) -> None:
    await accept(queue, event())
    first = await lease_one(queue)
    (again,) = await lease(queue, settled=[Settlement(first, "return", 0)])
    assert (again.id, again.attempt) == (first.id, 1)


async def test_a_lease_that_ended_gives_the_event_to_another_and_refuses_the_late_holder(store: Store) -> None:
    queue = Queue(store, "laravel", lease=0.05, max_bytes=10**6, max_events=100)
    await accept(queue, event())
    late = await lease_one(queue)
    second: list[Delivery] = []

    async def leased_again() -> bool:
        second.extend(await lease(queue))
        return bool(second)

    await until(leased_again)
    assert second[0].id == late.id
    polled = await queue.poll([Settlement(late, "delivered")], 0)
    assert polled.refused == [late]
    assert (await queue.counts()).delivered == 0
    assert (await queue.poll([Settlement(second[0], "delivered")], 0)).refused == []


async def test_settling_twice_settles_once(queue: Queue) -> None:
    await accept(queue, event())
    leased = await lease_one(queue)
    await queue.poll([Settlement(leased, "delivered")], 0)
    assert (await queue.poll([Settlement(leased, "delivered")], 0)).refused == [leased]
    assert (await queue.counts()).delivered == 1


async def test_an_event_that_crashes_its_holders_becomes_a_dead_letter(store: Store) -> None:
    dead = DeadLetters(store, "laravel")
    queue = Queue(store, "laravel", lease=0.01, max_bytes=10**6, max_events=100)
    await accept(queue, event())

    async def buried() -> bool:
        for one in await lease(queue):
            assert one.crash_count < SUSPECT or await queue.suspects.begun(one)
        return (await queue.counts()).dead == 1

    await until(buried)
    (letter,) = [letter async for letter in dead.all()]
    assert letter.reason == "3 relay processes ended while they delivered it"


async def test_an_id_is_accepted_once(queue: Queue) -> None:
    given = event()
    assert not (await accept(queue, given)).repeat
    assert (await accept(queue, given)).repeat
    assert (await queue.counts()).waiting == 1


async def test_urgent_goes_before_normal_before_bulk(queue: Queue) -> None:
    for lane in ("bulk", "normal", "urgent"):
        for i in range(10):
            await accept(queue, event(f"s{i}", lane=lane))
    queue.look_everywhere()
    leased = await lease(queue, 10)
    assert {d.stream[:1] for d in leased[:4]} >= {b"u"}
    assert sum(d.stream[:1] == b"u" for d in leased) >= 4


async def test_bulk_is_never_starved(queue: Queue) -> None:
    for i in range(200):
        await accept(queue, event(f"m{i}", lane="normal"))
    await accept(queue, event("slow", lane="bulk"))
    taken = [d for _ in range(100) for d in await lease(queue, 1)]
    assert b"bslow" in {d.stream for d in taken}


async def test_a_newer_event_takes_the_place_of_the_waiting_older_one(queue: Queue) -> None:
    await accept(queue, event(body=b"typing 1", coalesce_key="typing"))
    await accept(queue, event(body=b"other"))
    await accept(queue, event(body=b"typing 2", coalesce_key="typing"))
    first = await lease_one(queue)
    (second,) = await lease(queue, settled=[Settlement(first, "delivered")])
    assert (first.body, second.body) == (b"typing 2", b"other")
    counts = await queue.counts()
    assert (counts.accepted, counts.replaced) == (3, 1)


async def test_what_is_being_delivered_is_not_replaced(queue: Queue) -> None:
    await accept(queue, event(body=b"under way", coalesce_key="typing"))
    first = await lease_one(queue)
    await accept(queue, event(body=b"newer", coalesce_key="typing"))
    (second,) = await lease(queue, settled=[Settlement(first, "delivered")])
    assert (first.body, second.body) == (b"under way", b"newer")


async def test_what_went_stale_is_not_sent_and_counted(queue: Queue) -> None:
    await accept(queue, event(body=b"stale", ttl=0.02))
    await accept(queue, event(body=b"fresh"))
    leased: list[Delivery] = []

    async def expired() -> bool:
        leased.extend(await lease(queue, settled=[Settlement(d, "return", 0) for d in leased[-1:]]))
        return (await queue.counts()).expired == 1

    await until(expired)
    assert leased[-1].body == b"fresh"


async def test_a_delayed_event_waits_and_holds_what_comes_after_it(queue: Queue) -> None:
    await accept(queue, event(body=b"delayed", delay=1.0))
    await accept(queue, event(body=b"after"))
    assert await lease(queue) == []
    leased: list[Delivery] = []

    async def due() -> bool:
        leased.extend(await lease(queue))
        return bool(leased)

    await until(due)
    assert leased[0].body == b"delayed"


async def test_a_full_backlog_refuses_bulk_first(store: Store) -> None:
    queue = Queue(store, "laravel", lease=30, max_bytes=10**6, max_events=10)
    for _ in range(9):
        await accept(queue, event(lane="normal"))
    with pytest.raises(BacklogFull):
        await accept(queue, event(lane="bulk"))
    await accept(queue, event(lane="normal"))
    with pytest.raises(BacklogFull):
        await accept(queue, event(lane="normal"))
    assert (await queue.counts()).refused == 2


async def test_bytes_are_given_back_when_events_leave(queue: Queue, dead: DeadLetters) -> None:
    await accept(queue, event(body=b"x" * 1000, coalesce_key="k"))
    await accept(queue, event(body=b"x" * 10, coalesce_key="k"))
    await queue.poll([Settlement(await lease_one(queue), "dead", "no")], 0)
    letters = [letter async for letter in dead.all()]
    await dead.replay(letters)
    await queue.poll([Settlement(await lease_one(queue), "delivered")], 0)
    assert (await queue.counts()).bytes == 0


async def test_dead_letters_are_listed_replayed_in_front_and_dropped(queue: Queue, dead: DeadLetters) -> None:
    for body in (b"1", b"2", b"3"):
        await accept(queue, event(body=body))
    first = await lease_one(queue)
    (second,) = await lease(queue, settled=[Settlement(first, "dead", "answered 422: no")])
    await queue.poll([Settlement(second, "dead", "answered 422: no")], 0)
    letters = [letter async for letter in dead.all(with_bodies=True)]
    assert [(letter.event.body, letter.reason) for letter in letters] == [
        (b"1", "answered 422: no"),
        (b"2", "answered 422: no"),
    ]
    assert await dead.replay(letters[:1]) == 1
    assert await dead.replay(letters[:1]) == 0
    assert await dead.drop(letters[1:]) == 1
    again = await lease_one(queue)
    (last,) = await lease(queue, settled=[Settlement(again, "delivered")])
    assert (again.body, again.attempt, last.body) == (b"1", 1, b"3")


async def test_old_dead_letters_are_dropped(queue: Queue, dead: DeadLetters) -> None:
    await accept(queue, event())
    await queue.poll([Settlement(await lease_one(queue), "dead", "no")], 0)
    assert await dead.drop_older(60) == 0
    assert await dead.drop_older(-1) == 1
    assert (await queue.counts()).dead == 0


async def test_an_empty_queue_leaves_only_its_name_its_counters_its_history_and_the_ids_for_deduplication(
    queue: Queue, store: Store
) -> None:
    await accept(queue, event(coalesce_key="k", ttl=60))
    await queue.poll([Settlement(await lease_one(queue), "delivered")], 0)
    kinds = {key.rsplit(b":", 1)[1] for key in await store.redis.keys("sl:{*")}
    assert kinds == {b"counts", b"dedupe", b"endpoints", b"seq", b"history"}


async def test_a_forgetful_store_loses_nothing_but_its_scripts(queue: Queue, store: Store) -> None:
    await accept(queue, event())
    await store.redis.script_flush()
    leased = await lease_one(queue)
    await store.redis.script_flush()
    assert (await queue.poll([Settlement(leased, "delivered")], 0)).refused == []


async def test_an_event_that_is_replayed_while_its_session_is_leased_comes_next(
    queue: Queue, dead: DeadLetters
) -> None:
    for body in (b"1", b"2", b"3"):
        await accept(queue, event(body=body))
    (second,) = await lease(queue, settled=[Settlement(await lease_one(queue), "dead", "no")])
    await dead.replay([letter async for letter in dead.all()])
    assert await lease(queue) == []
    (first,) = await lease(queue, settled=[Settlement(second, "delivered")])
    assert first.body == b"1"


def test_an_idempotency_key_always_gives_the_same_id() -> None:
    assert new_id("a") == new_id("a") != new_id("b")
    assert new_id() != new_id()


def test_an_event_without_session_waits_for_nobody() -> None:
    one = event(None)
    assert one.ordering_key == one.id
    assert dataclasses.replace(one, session="s").ordering_key == "s"


async def test_large_events_go_in_several_calls_and_stay_in_order(store: Store) -> None:
    queue = Queue(store, "laravel", lease=30.0, max_bytes=10**9, max_events=1000)
    bodies = [bytes([i]) * 1_500_000 for i in range(8)]
    await asyncio.gather(*(accept(queue, event(body=body)) for body in bodies))
    leased: list[bytes] = []
    settled: list[Settlement] = []
    while heads := await lease(queue, settled=settled):
        leased.append(heads[0].body)
        settled = [Settlement(heads[0], "delivered")]
    assert leased == bodies


async def test_a_suspect_whose_post_was_not_begun_is_no_dead_letter_however_many_holders_end(store: Store) -> None:
    queue = Queue(store, "laravel", lease=0.01, max_bytes=10**6, max_events=100)
    await accept(queue, event())
    counts: list[int] = []

    async def many_times() -> bool:
        counts.extend(one.crash_count for one in await lease(queue))
        return len(counts) == 8

    await until(many_times)
    assert counts == [0, 1, *[SUSPECT] * 6]
    assert (await queue.counts()).dead == 0


async def test_a_suspect_whose_post_was_begun_and_that_comes_back_unsent_is_as_suspect_as_before(store: Store) -> None:
    queue = Queue(store, "laravel", lease=0.05, max_bytes=10**6, max_events=100)
    await accept(queue, event())
    held: list[Delivery] = []

    async def is_suspect() -> bool:
        held[:] = await lease(queue) or held
        return held[0].crash_count == SUSPECT

    await until(is_suspect)
    for _ in range(2):
        assert await queue.suspects.begun(held[0])
    held = await lease(queue, settled=[Settlement(held[0], "return")])
    assert held[0].crash_count == SUSPECT
    late = held[0]

    async def again() -> bool:
        held[:] = await lease(queue)
        return bool(held)

    await until(again)
    assert held[0].crash_count == SUSPECT
    assert not await queue.suspects.begun(late), "somebody else holds its lease"
    assert (await queue.counts()).dead == 0


async def test_what_is_put_back_unsent_still_knows_how_many_holders_died_on_it(store: Store) -> None:
    queue = Queue(store, "laravel", lease=0.05, max_bytes=10**6, max_events=100)
    await accept(queue, event())
    await lease(queue)
    again: list[Delivery] = []

    async def back() -> bool:
        again[:] = await lease(queue)
        return bool(again)

    await until(back)
    assert again[0].crash_count == 1
    (unsent,) = await lease(queue, settled=[Settlement(again[0], "return", 0)])
    assert unsent.crash_count == 1
    (sent,) = await lease(queue, settled=[Settlement(unsent, "return", 0, "429 12 answered 429")])
    assert sent.crash_count == 0
