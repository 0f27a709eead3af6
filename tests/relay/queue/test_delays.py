"""What limits delay goes earlier when they are edited, or when a person wants it."""

from __future__ import annotations

import pytest

from relay.queue import delays
from relay.queue.codec import DelayedBy, Event
from relay.queue.delays import NOW, Delayed, Numbers
from relay.queue.history import history_of
from relay.queue.inbox import Inbox
from relay.queue.layout import any_key
from relay.queue.queue import Queue, Settlement
from sluice.store import clock
from sluice.store.client import Store
from tests.relay.making import event

pytestmark = pytest.mark.anyio


def queue_of(store: Store, endpoint: str, *, in_order: bool = True) -> Queue:
    return Queue(store, endpoint, lease=30.0, max_bytes=10**7, max_events=10**5, in_order=in_order)


@pytest.fixture
def queue(store: Store) -> Queue:
    return queue_of(store, "laravel")


def delayed(session: str | None = "s1", tokens: int = 1, limit: str = "message", **more: object) -> Event:
    """By a limit of one a minute."""
    more.setdefault("delayed_by", DelayedBy(limit, 60.0, 1, float(more.pop("others", 0.0))))  # type: ignore[arg-type]
    return event(session, delay=tokens * 60.0, **more)


async def accept(store: Store, queues: list[Queue], *events: Event) -> None:
    inbox = Inbox(store)
    for one in events:
        await inbox.accept(one, [queue.destination for queue in queues])


async def bodies(queue: Queue) -> list[bytes]:
    """Of what may be sent now, in the order in which it would be."""
    found: list[bytes] = []
    while True:
        queue.look_everywhere()
        leased = (await queue.poll([], 100)).leased
        if not leased:
            return found
        found += [one.body for one in leased]
        await queue.poll([Settlement(one, "delivered") for one in leased], 0)


async def waits(store: Store, endpoint: str = "laravel") -> list[float]:
    """Seconds for which each delayed event still waits, the shortest first."""
    now, seen = (await clock.times(store, [any_key(0)]))[0], []

    def look(one: Delayed) -> None:
        seen.append(round(one.not_before - now, 1))

    await delays.follow(store, endpoint, look)
    return sorted(seen)


async def test_an_event_that_nothing_delays_leaves_no_trace(store: Store, queue: Queue) -> None:
    await accept(store, [queue], event())
    assert await store.redis.keys("*delayed") == []


async def test_the_delays_of_a_session_end_when_a_person_releases_it(store: Store, queue: Queue) -> None:
    mine = [delayed(body=b"%d" % i, tokens=i + 1) for i in range(3)]
    await accept(store, [queue], *mine, delayed("s2", body=b"other"))
    assert await bodies(queue) == []
    assert await delays.release(store, "laravel", session="s1") == 3
    assert await bodies(queue) == [b"0", b"1", b"2"]
    assert await delays.release(store, "laravel", session="s1") == 0
    assert len(await waits(store)) == 1


async def test_a_release_can_be_of_one_limit_alone(store: Store, queue: Queue) -> None:
    await accept(store, [queue], delayed(body=b"message"), delayed("s2", body=b"receipt", limit="receipt"))
    assert await delays.release(store, "laravel", limit="receipt") == 1
    assert await bodies(queue) == [b"receipt"]


async def test_a_release_wakes_the_relay(store: Store, queue: Queue) -> None:
    await accept(store, [queue], delayed())
    subscriber = store.redis.pubsub(ignore_subscribe_messages=True)
    await subscriber.subscribe(queue.channel)
    await subscriber.get_message(timeout=0.1)
    await delays.release(store, "laravel")
    message = await subscriber.get_message(timeout=5)
    await subscriber.aclose()  # type: ignore[no-untyped-call]
    assert message is not None


async def test_under_a_faster_rate_the_rest_of_the_delay_is_shorter_in_the_same_ratio(
    store: Store, queue: Queue
) -> None:
    await accept(store, [queue], *(delayed(tokens=i) for i in (1, 2, 3)))
    assert await delays.follow(store, "laravel", lambda _: Numbers(6.0, 1)) == 3
    assert await waits(store) == [pytest.approx(6, abs=2.5), pytest.approx(12, abs=0.3), pytest.approx(18, abs=0.3)]


async def test_following_the_same_numbers_again_changes_nothing(store: Store, queue: Queue) -> None:
    await accept(store, [queue], delayed(tokens=2))
    assert [await delays.follow(store, "laravel", lambda _: Numbers(6.0, 1)) for _ in range(3)] == [1, 0, 0]
    assert await waits(store) == [pytest.approx(12, abs=2.5)]


async def test_a_larger_burst_lends_as_many_tokens_as_it_has_grown_by(store: Store, queue: Queue) -> None:
    await accept(store, [queue], *(delayed(body=b"%d" % i, tokens=i) for i in (1, 2, 3)))
    assert [await delays.follow(store, "laravel", lambda _: Numbers(60.0, 3)) for _ in range(2)] == [3, 0]
    assert await bodies(queue) == [b"1", b"2"]
    assert await waits(store) == [pytest.approx(60, abs=2.5)]


@pytest.mark.parametrize("slower", [Numbers(120.0, 1), Numbers(60.0, 0), Numbers(61.0, 1)])
async def test_a_slower_limit_puts_nothing_off(store: Store, queue: Queue, slower: Numbers) -> None:
    await accept(store, [queue], delayed())
    assert await delays.follow(store, "laravel", lambda _: slower) == 0
    assert await delays.follow(store, "laravel", lambda _: Numbers(30.0, 1)) == 1
    assert await waits(store) == [pytest.approx(30, abs=2.5)]


async def test_what_one_limit_lets_go_waits_for_the_others(store: Store, queue: Queue) -> None:
    await accept(store, [queue], delayed(tokens=2, others=40.0))
    assert await delays.follow(store, "laravel", lambda _: NOW) == 1
    assert await waits(store) == [pytest.approx(40, abs=2.5)]
    assert await delays.follow(store, "laravel", lambda _: NOW) == 0


async def test_what_is_brought_forward_does_not_overtake_an_older_event_of_its_session(
    store: Store, queue: Queue
) -> None:
    first = event(body=b"first")
    await accept(store, [queue], first)
    (leased,) = (await queue.poll([], 100)).leased
    await queue.poll([Settlement(leased, "retry", 60_000)], 0)  # backs off
    await accept(store, [queue], delayed(body=b"second"))
    assert await delays.release(store, "laravel") == 1
    assert await bodies(queue) == []


async def test_a_lease_is_not_ended_by_it(store: Store, queue: Queue) -> None:
    await accept(store, [queue], event(body=b"first"), delayed(body=b"second"))
    (leased,) = (await queue.poll([], 100)).leased
    assert await delays.release(store, "laravel") == 1
    assert await bodies(queue) == []
    assert await queue.extend([leased]) == []
    assert (await queue.poll([Settlement(leased, "delivered")], 0)).refused == []
    assert await bodies(queue) == [b"second"]


async def test_an_event_for_two_endpoints_is_brought_forward_for_each(store: Store) -> None:
    one, other = queue_of(store, "one"), queue_of(store, "other", in_order=False)
    await accept(store, [one, other], delayed(body=b"x", tokens=2))
    assert await delays.follow(store, "one", lambda _: Numbers(6.0, 1)) == 1
    assert await delays.follow(store, "other", lambda _: Numbers(6.0, 1)) == 1
    assert await waits(store, "one") == await waits(store, "other") == [pytest.approx(12, abs=2.5)]
    for name in ("one", "other"):
        assert await delays.release(store, name) == 1
    assert await bodies(one) == await bodies(other) == [b"x"]
    assert [(await queue.counts()).bytes for queue in (one, other)] == [0, 0]


async def test_the_history_of_an_event_names_the_limit_that_delays_it(store: Store, queue: Queue) -> None:
    one, other = delayed("s1"), event("s2")
    await accept(store, [queue], one, other)
    found = [await history_of(store, ["laravel"], given.id) for given in (one, other)]
    assert [history.endpoints[0].delayed_by for history in found if history] == ["message", None]


async def test_more_than_a_page_is_released_whole(store: Store, queue: Queue) -> None:
    await accept(store, [queue], *(delayed(f"s{i % 3}", body=b"%d" % i, tokens=1 + i // 100) for i in range(450)))
    assert await delays.release(store, "laravel") == 450
    assert sorted(map(int, await bodies(queue))) == list(range(450))


async def test_delays_that_are_over_are_forgotten(store: Store, queue: Queue) -> None:
    await accept(store, [queue], event(delay=0.02, delayed_by=DelayedBy("message", 0.02, 1)), delayed("s2"))
    while await bodies(queue) == []:
        pass
    await delays.forget_past(store, "laravel")
    assert sum([await store.redis.zcard(key) for key in await store.redis.keys("*delayed")]) == 1
