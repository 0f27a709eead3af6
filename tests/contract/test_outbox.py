"""A Laravel as it is, whose sends are stored: nothing is lost to a 429, and nothing is doubled by its three tries."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.fleet import Fleet, fleet
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
SESSION, PHONE = "s1", "4915110001"
TO = "4915112345678"


def with_outbox(policies: dict[str, Any]) -> None:
    (limit,) = (limit for limit in policies["limits"] if limit["id"] == "send")
    limit.pop("mode", None)
    limit |= {"rate": "120/minute", "burst": 2, "over": "queue", "hold": "1s"}


@pytest.fixture
async def place(short_folder: Path, store_url: str, free_port: Callable[[], int]) -> AsyncIterator[Fleet]:
    arguments = ("--receipts", "--send-time", "0.02")
    async with fleet(
        short_folder, store_url, free_port, workers=1, start=False, edit=with_outbox, arguments=arguments
    ) as made:
        await made.know(0, SESSION, PHONE)
        await made.start_all()
        await made.restored()
        await made.connected(SESSION)
        yield made


def sent(place: Fleet) -> list[str]:
    return [one.message for one in place.phones.sent]


async def send_all(place: Fleet, messages: list[str]) -> list[dict[str, Any]]:
    """Each begun before the one before it was answered, as by workers of Laravel's queue."""
    tasks = []
    for message in messages:
        tasks.append(asyncio.create_task(place.app.do("send", SESSION, to=TO, message=message)))
        await asyncio.sleep(0.05)
    return await asyncio.gather(*tasks)


async def test_nothing_is_lost_to_a_429_and_its_receipts_have_the_ids_that_it_stored(place: Fleet) -> None:
    messages = [f"message {number}" for number in range(10)]
    said = await send_all(place, messages)
    assert {one["status"] for one in said} == {200, 202}
    await until(lambda: len(sent(place)) == len(messages), timeout=60, what="all of them to be sent")
    assert Counter(sent(place)) == Counter(messages)
    stored = {one["value"]["message_id"]: message for one, message in zip(said, messages, strict=True)}
    assert len(stored) == len(messages)

    async def receipts() -> list[dict[str, Any]]:
        return [hook for hook in await place.app.shown("webhooks") if str(hook["event"]).startswith("message_")]

    async def all_have_come() -> bool:
        return len(await receipts()) >= 3 * len(messages)

    await until(all_have_come, timeout=60, what="three webhooks about each message")
    assert Counter(hook["message_id"] for hook in await receipts()) == dict.fromkeys(stored, 3)


async def test_nothing_is_doubled_by_its_tries_when_answers_come_too_late(place: Fleet) -> None:
    """It gives up after 0.6 s, tries three times, and each time the send is on its way already."""
    await place.app.set(scale=0.02)
    messages = [f"message {number}" for number in range(6)]
    said = await send_all(place, messages)
    await until(lambda: len(set(sent(place))) == len(messages), timeout=60, what="all of them to be sent")
    await asyncio.sleep(2.0)
    assert Counter(sent(place)) == Counter(messages)
    calls = [call for call in await place.app.shown("calls") if call["url"].endswith("/api/messages/send")]
    assert len(calls) > len(messages), "it has tried some more than once"
    assert not [one for one in said if 400 <= one["status"] < 500]
