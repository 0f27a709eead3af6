"""A bulk-send that would end the worker goes out in pieces, as one, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.workers import bulk
from tests.gateway.running import problem
from tests.gateway.workers.test_sends import BULK, SEND, Place, a_send, at_work, hang_up
from tests.heard import Heard
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SCALE = 0.1
"""A worker ends itself after 3 s instead of 30, and pauses for 0.1 s instead of 1."""


@pytest.fixture
async def place(
    tmp_path: Path, store_url: str, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setattr(bulk, "PIECE", 15.0 * SCALE)
    timing = ("--limits-scale", str(SCALE), "--bulk-pause", str(1.0 * SCALE), "--send-time", "0.05")
    async with at_work(store_url, tmp_path, free_port(), *timing) as made:
        yield made


def to(number: int, message: str = "news", **more: Any) -> dict[str, Any]:
    return {"session_id": "s1", "recipients": recipients(number), "message": message, **more}


def recipients(number: int) -> list[str]:
    return [f"49151000{i:05}" for i in range(number)]


def pieces(state: dict[str, Any]) -> int:
    return sum(one["path"] == BULK for one in state["asked"])


async def test_directly_it_ends_the_worker(place: Place) -> None:
    with pytest.raises(httpx2.HTTPError):
        await place.worker.ask("POST", BULK, json=to(40))
    assert await place.worker.ended() == 1


async def test_it_is_split_and_answered_as_one(place: Place, heard: Heard) -> None:
    gate = await place.gateway()
    answer = await gate.http.post(BULK, json=to(40), timeout=60)
    assert answer.status_code == 200
    value = answer.json()
    assert list(value) == ["success", "total", "successful", "failed", "results", "errors"]
    assert (value["success"], value["total"], value["successful"], value["failed"]) == (True, 40, 40, 0)
    assert [one["recipient"] for one in value["results"]] == recipients(40)
    assert answer.headers["content-type"] == (await place.worker.ask("POST", BULK, json=to(1))).headers["content-type"]
    assert place.worker.alive
    assert await place.sent("news") == 41
    progress = [fields["done"] for message, fields in heard.lines if message == "bulk.piece"]
    assert progress[-1] == 40
    assert 3 <= len(progress) <= 8


async def test_a_small_one_goes_through_byte_for_byte(place: Place) -> None:
    gate = await place.gateway()
    body = b'{"session_id":  "s1", "recipients": ["4915100000001"], "message": "news"}'
    answer = await gate.http.post(BULK, content=body, headers={"content-type": "application/json"})
    assert answer.json()["successful"] == 1
    asked = [one for one in (await place.worker.state())["asked"] if one["path"] == BULK]
    assert [one["headers"]["content-length"] for one in asked] == [str(len(body))]


async def test_recipients_that_fail_stand_among_the_errors_in_their_order(place: Place) -> None:
    gate = await place.gateway()
    mixed = recipients(20)
    mixed[3], mixed[15] = "nobody", "no number"
    value = (await gate.http.post(BULK, json={**to(0), "recipients": mixed}, timeout=60)).json()
    assert (value["total"], value["successful"], value["failed"]) == (20, 18, 2)
    assert [one["recipient"] for one in value["errors"]] == ["nobody", "no number"]
    assert value["errors"][0]["error"] == "Invalid phone number"


async def test_each_piece_has_the_other_fields(place: Place) -> None:
    gate = await place.gateway()
    value = (await gate.http.post(BULK, json=to(20, type="neither"), timeout=60)).json()
    assert value["successful"] == 20
    assert await place.sent("news") == 0, "of this type it sends nothing, and says success"


async def test_a_caller_that_hangs_up_and_repeats_joins_the_run(place: Place) -> None:
    gate = await place.gateway()
    await hang_up(gate, to(30), path=BULK, after=0.5)
    await hang_up(gate, to(30), path=BULK, after=0.5)
    value = (await gate.http.post(BULK, json=to(30), timeout=60)).json()
    assert (value["total"], value["successful"]) == (30, 30)
    assert await place.sent("news") == 30


async def test_an_answer_of_the_first_piece_that_is_none_is_the_answer(place: Place) -> None:
    gate = await place.gateway()
    await place.worker.set(says={BULK: [401, {"error": "Invalid API key"}]})
    answer = await gate.http.post(BULK, json=to(30))
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid API key"})
    assert pieces(await place.worker.state()) == 1


@pytest.mark.parametrize("says", [[500, {"error": "Session closed"}], [200, {"success": True}], [400, "<html>"]])
async def test_a_later_piece_that_fails_loses_nothing_of_those_before(place: Place, says: list[Any]) -> None:
    gate = await place.gateway()
    run = asyncio.create_task(gate.http.post(BULK, json=to(30), timeout=60))
    await until(lambda: some(place))
    await place.worker.set(says={BULK: says})
    answer = await run
    value = answer.json()
    sent = await place.sent("news")
    assert answer.status_code == 200
    assert (value["total"], value["successful"], value["failed"]) == (30, sent, 30 - sent)
    assert [one["recipient"] for one in value["results"] + value["errors"]] == recipients(30)
    assert value["errors"][0]["error"].startswith(f"the worker answered {says[0]}: ")
    assert value["errors"][-1]["error"] == "not sent, as an earlier one failed"


async def some(place: Place) -> bool:
    return await place.sent("news") > 0


async def test_a_worker_that_dies_leaves_what_is_not_known_and_what_was_not_sent(place: Place) -> None:
    gate = await place.gateway()
    run = asyncio.create_task(gate.http.post(BULK, json=to(30), timeout=60))
    await until(lambda: second_piece(place))
    await place.worker.kill()
    value = (await run).json()
    assert value["total"] == 30
    assert value["successful"] + value["failed"] == 30
    assert value["successful"] >= bulk.FIRST
    why = "it is not known whether it was sent: worker w1 broke off before it answered"
    assert value["errors"][0]["error"] == why
    assert value["errors"][-1]["error"] == "not sent, as an earlier one failed"


async def second_piece(place: Place) -> bool:
    return await place.sent("news") > bulk.FIRST


async def test_pieces_grow_with_what_was_seen_and_shrink_at_once(place: Place) -> None:
    gate = await place.gateway()
    await gate.http.post(BULK, json=to(30), timeout=60)
    first = last = pieces(await place.worker.state())

    async def takes_no_more_pieces() -> bool:
        """A worker on a busy machine may be slower than it was the first time."""
        nonlocal last
        await gate.http.post(BULK, json=to(30, "more"), timeout=60)
        before, last = last, pieces(await place.worker.state())
        return last - before <= first

    await until(takes_no_more_pieces)
    assert place.worker.alive


async def test_one_that_is_too_long_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST", 20)
    gate = await place.gateway()
    answer = await gate.http.post(BULK, json=to(21))
    assert problem(answer) == (413, "a bulk-send takes 20 recipients at most; send fewer at once")
    assert await place.sent("news") == 0


async def test_a_gateway_that_stops_says_what_is_left(place: Place, heard: Heard) -> None:
    gate = await place.gateway()
    run = asyncio.create_task(gate.http.post(BULK, json=to(40), timeout=60))
    await until(lambda: some(place))
    await place.stops[0]()
    value = (await run).json()
    sent = await place.sent("news")
    assert (value["total"], value["successful"], value["failed"]) == (40, sent, 40 - sent)
    assert value["errors"][-1]["error"] == "not sent: the gateway stops"
    assert "bulk.given_up" in heard.messages()


async def test_without_the_shield_it_is_sent_as_one(place: Place) -> None:
    gate = await place.gateway(sessions=", shields: {{bulk: false}}")
    await gate.http.post(BULK, json=to(15), timeout=60)
    assert pieces(await place.worker.state()) == 1
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200


async def test_with_this_shield_alone_it_is_split_as_well(place: Place) -> None:
    gate = await place.gateway(sessions=", shields: {{repeats: false}}")
    value = (await gate.http.post(BULK, json=to(20), timeout=60)).json()
    assert value["successful"] == 20
    assert pieces(await place.worker.state()) > 1


@pytest.mark.parametrize("message", [b"half an emoji \\ud83d", b"news"])
async def test_what_only_a_lenient_reader_understands_is_split_as_well(place: Place, message: bytes) -> None:
    gate = await place.gateway()
    to_all = b",".join(b'"%b"' % number.encode() for number in recipients(15))
    body = b'{"session_id":"s1","recipients":[%b],"message":"%b","big":%b}' % (to_all, message, b"9" * 30)
    answer = await gate.http.post(BULK, content=body, headers={"content-type": "application/json"}, timeout=60)
    assert (answer.status_code, answer.json()["successful"]) == (200, 15)
    assert pieces(await place.worker.state()) > 1
    expected = message.decode().replace("\\ud83d", "\ud83d")
    assert {one["message"] for one in (await place.worker.state())["sent"]} == {expected}
