"""What a gateway sees in passing is told to the store; what would make a session silent is not lightly believed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sessions.lifecycle import traffic
from sessions.lifecycle.traffic import Traffic
from sessions.registry import Registry
from sessions.signs import Signs
from sessions.watched import Seen
from sluice.store.client import Store, StoreAway
from tests.sessions.making import register, run

pytestmark = pytest.mark.anyio
AT_ONCE = 1e-9


@pytest.fixture
async def registry(store: Store) -> Registry:
    made = Registry(store, 60.0)
    await register(made, "w1")
    await run(made, "w1", "s1", "s2")
    return made


async def signs(registry: Registry, session: str = "s1") -> Signs:
    row = await registry.session(session)
    assert row is not None
    return row.signs


def send(seen: Traffic, status: int | None, session: str = "s1") -> None:
    seen.end(seen.begin(session), status)


@pytest.mark.parametrize(
    ("statuses", "counts"),
    [
        ([200], True),
        ([500], False),  # it may be the recipient's fault
        ([500, 504, None], True),
        ([400, 401, 404, 429, 409], False),
    ],
)
async def test_a_send_that_should_have_brought_an_event_is_told(
    registry: Registry, statuses: Sequence[int | None], counts: bool
) -> None:
    seen = Traffic()
    for status in statuses:
        send(seen, status)
    await seen.tell(registry, AT_ONCE)
    await seen.tell(registry, AT_ONCE)
    assert ((await signs(registry)).sent is not None) == counts


async def test_an_event_that_comes_before_the_answer_of_its_send_counts(registry: Registry) -> None:
    seen = Traffic()
    sending = seen.begin("s1")
    seen.heard("s1")
    seen.end(sending, 200)
    await seen.tell(registry, AT_ONCE)
    known = await signs(registry)
    assert (known.sent, known.heard is not None) == (None, True)


async def test_an_event_that_comes_later_counts_whatever_gateway_hears_it(registry: Registry) -> None:
    seen, other = Traffic(), Traffic()
    send(seen, 200)
    await asyncio.sleep(0.01)
    other.heard("s1")
    await other.tell(registry, AT_ONCE)
    await seen.tell(registry, AT_ONCE)
    known = await signs(registry)
    assert known.sent is not None
    assert known.heard is not None
    assert known.sent < known.heard


async def test_the_first_send_without_an_event_stays_the_one_that_counts(registry: Registry) -> None:
    seen = Traffic()
    send(seen, 200)
    await seen.tell(registry, AT_ONCE)
    first = (await signs(registry)).sent
    await asyncio.sleep(0.01)
    send(seen, 200)
    await seen.tell(registry, AT_ONCE)
    assert (await signs(registry)).sent == first
    seen.heard("s1")
    await asyncio.sleep(0.01)
    send(seen, 200)
    await seen.tell(registry, AT_ONCE)
    later = (await signs(registry)).sent
    assert first is not None
    assert later is not None
    assert later > first


async def test_who_is_sent_something_for_long_is_known_to_be(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "EVERY", 0.0)
    seen = Traffic()
    sending = seen.begin("s1")
    await seen.tell(registry, 1000.0)
    assert (await signs(registry)).sending is not None
    assert seen.is_sending("s1")
    seen.end(sending, 200)
    assert not seen.is_sending("s1")


async def test_of_sessions_that_nobody_knows_nothing_is_kept(registry: Registry) -> None:
    seen = Traffic()
    for number in range(500):
        seen.heard(f"stranger {number}")
    seen.heard("s2")
    await seen.tell(registry, AT_ONCE)
    assert {row.session for row in await registry.sessions()} == {"s1", "s2"}
    assert (await signs(registry, "s2")).heard is not None


async def test_it_is_told_a_few_times_within_the_time_after_which_it_would_be_silent(registry: Registry) -> None:
    calls = list[Sequence[Seen]]()

    class Counting(Registry):
        async def see(self, seen: Sequence[Seen]) -> None:
            calls.append(seen)

    counting, seen = Counting(registry._store, 60.0), Traffic()
    seen.heard("s1")
    await seen.tell(counting, None)
    for _ in range(3):
        seen.heard("s1")
        await seen.tell(counting, None)
    assert len(calls) == 1


async def test_what_could_not_be_told_is_told_later(registry: Registry) -> None:
    away, seen = Registry(Store("redis://127.0.0.1:1", timeout=0.1), 60.0), Traffic()
    seen.heard("s1")
    with pytest.raises(StoreAway):
        await seen.tell(away, AT_ONCE)
    await seen.tell(registry, AT_ONCE)
    assert (await signs(registry)).heard is not None


async def test_what_is_forgotten_leaves_nothing(registry: Registry) -> None:
    seen = Traffic()
    seen.heard("s1")
    await seen.tell(registry, AT_ONCE)
    await registry.forget("s1")
    (kept,) = await registry._store.commands(("HLEN", "sl:{sessions}:activity"))
    assert kept == 0


async def test_a_flood_of_names_takes_bounded_memory(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MAX_BYTES", 20_000)
    seen = Traffic()
    for number in range(100):
        seen.heard(f"h{number}")
        send(seen, 200, f"s{number}")
    assert 0 < len(seen._heard) < 60
    assert 0 < len(seen._unproven) < 40
    assert seen._heard.get("h99") is not None
