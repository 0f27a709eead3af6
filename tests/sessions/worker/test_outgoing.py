from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sessions.worker import outgoing
from sessions.worker.outgoing import Outgoing
from tests.heard import Heard
from tests.sessions.worker.receiving import Receiver, received
from tests.sluice.demo.serving import SIGNATURE
from tests.waiting import until

pytestmark = pytest.mark.anyio
WITHIN = 30.0


@asynccontextmanager
async def sending() -> AsyncIterator[tuple[Receiver, Outgoing]]:
    async with received() as (receiver, address):
        one = Outgoing(address, SIGNATURE, "http://w1:3000")
        try:
            yield receiver, one
        finally:
            await one.close()


def numbers(receiver: Receiver) -> list[int]:
    return [data["number"] for _, data in receiver.events]


async def test_what_is_not_taken_is_sent_again_and_all_else_waits_for_it() -> None:
    async with sending() as (receiver, one):
        receiver.answers += [503, 429, 500, 200, 421]
        session = one.of("s", 7)
        session.workspace = 3
        for number in range(5):
            session.emit("message_received", {"number": number})
        await until(lambda: len(receiver.events) == 5, timeout=WITHIN)
        assert numbers(receiver) == [0, 1, 2, 3, 4]
        assert receiver.events[0] == ("message_received", {"workspace_id": 3, "session_id": "s", "number": 0})
        await session.end(1.0)
        assert one.counts == {("accepted", "message_received"): 5}


async def test_each_attempt_is_signed_anew_and_names_the_fence_and_the_worker() -> None:
    async with sending() as (receiver, one):
        receiver.answers += [503]
        session = one.of("s", 7)
        session.emit("session_ready", {})
        await until(lambda: receiver.events, timeout=WITHIN)
        for headers in receiver.headers:
            assert (headers["x-sluice-fence"], headers["x-instance-url"]) == ("7", "http://w1:3000")
            assert len(headers["x-hmac-signature"]) == 64
        await session.end(1.0)


@pytest.mark.parametrize("status", [400, 401, 404, 409])
async def test_what_is_refused_for_good_does_not_hold_up_the_rest(status: int, heard: Heard) -> None:
    async with sending() as (receiver, one):
        receiver.answers += [status]
        session = one.of("s", 7)
        session.emit("message_received", {"number": 0})
        session.emit("message_received", {"number": 1})
        await until(lambda: receiver.events, timeout=WITHIN)
        assert numbers(receiver) == [1]
        assert one.counts["refused", "message_received"] == 1
        await session.end(1.0)


async def test_a_session_whose_gateway_is_away_holds_up_no_other() -> None:
    async with sending() as (receiver, one):
        away = Outgoing("http://127.0.0.1:1", SIGNATURE, "http://w1:3000")
        stuck, other = away.of("a", 1), one.of("b", 1)
        stuck.emit("message_received", {"number": 0})
        other.emit("message_received", {"number": 1})
        await until(lambda: receiver.events, timeout=WITHIN)
        await stuck.end(0.1)
        await other.end(1.0)
        await away.close()


async def test_what_waits_is_bounded_and_what_is_stale_soonest_goes_first(
    monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    monkeypatch.setattr(outgoing, "MAX_BYTES", 3_000)
    one = Outgoing("http://127.0.0.1:1", SIGNATURE, "http://w1:3000")
    session = one.of("s", 1)
    await asyncio.sleep(0)
    session.emit("message_received", {"text": "x" * 900})
    session.emit("typing_indicator", {"text": "x" * 900})
    session.emit("message_received", {"text": "x" * 900})
    session.emit("message_received", {"text": "x" * 900})
    assert one.counts == {("dropped", "typing_indicator"): 1}
    session.emit("message_received", {"text": "x" * 900})
    assert one.counts["dropped", "message_received"] == 1
    await session.end(0.0)
    await one.close()


async def test_an_end_lets_out_what_waits() -> None:
    async with sending() as (receiver, one):
        session = one.of("s", 1)
        accepted: list[int] = []
        session.on_accepted = lambda: accepted.append(len(numbers(receiver)))
        for number in range(20):
            session.emit("message_received", {"number": number})
        await session.end(WITHIN)
        assert numbers(receiver) == list(range(20))
        assert accepted == [20]


async def test_what_waits_longer_than_an_end_may_take_is_left_and_told(heard: Heard) -> None:
    one = Outgoing("http://127.0.0.1:1", SIGNATURE, "http://w1:3000")
    session = one.of("s", 1)
    session.emit("message_received", {"number": 1})
    session.emit("typing_indicator", {})
    await session.end(0.0)
    assert one.counted()["left"] == {"message_received": 1, "typing_indicator": 1}
    assert ("webhook.left", {"session": "s", "waiting": 2}) in heard.lines
    await one.close()
