"""Sends that meet a limit with `over: queue`, at a worker as it is: stored, in order, at their pace, each once."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.explain import HypotheticalRequest, explain, outcome
from gateway.outbox.results import Results
from gateway.policies import Policies
from gateway.problems import Refusal
from gateway.workers.target import Target
from relay.policies import OF_SENDS
from relay.process import open_queue
from relay.queue.codec import Event
from relay.queue.inbox import Inbox
from relay.queue.queue import Counts
from sessions.registry import Registry
from sluice.console.actions import dead_letters
from sluice.store.client import Store
from tests.gateway.running import Gate, problem
from tests.gateway.workers.sending import BULK, SEND, Place, a_send, at_work, hang_up
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio
QUEUE = "{{id: send, event: message_send, per: [session], rate: %s, burst: %d, over: queue%s}}"


def queue(rate: str = "600/minute", burst: int = 5, more: str = "") -> str:
    return QUEUE % (rate, burst, more)


@pytest.fixture
async def place(tmp_path: Path, store_url: str, free_port: Callable[[], int]) -> AsyncIterator[Place]:
    async with at_work(store_url, tmp_path, free_port(), "--send-time", "0.1", "--bulk-pause", "0.05") as made:
        yield made


async def counts(gate: Gate, store: Store) -> Counts:
    return await open_queue(store, OF_SENDS, gate.policies).counts()


async def messages(place: Place, session: str = "s1") -> list[str]:
    return [one["message"] for one in (await place.worker.state())["sent"] if one["session_id"] == session]


async def test_who_waits_gets_the_workers_own_answer_byte_for_byte(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue())
    answer = await gate.http.post(SEND, json=a_send())
    direct = await place.worker.ask("POST", SEND, json=a_send("other"))
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert answer.headers["content-type"] == direct.headers["content-type"]
    assert answer.json()["message_id"] == (await place.worker.state())["sent"][0]["message_id"]
    assert (await counts(gate, store)).delivered == 1


async def test_a_refusal_of_the_worker_is_the_callers_and_no_dead_letter(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue())
    answer = await gate.http.post(SEND, json=a_send(to="no phone"))
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid phone number"})
    assert (await counts(gate, store)).dead == 0


async def test_who_waited_long_enough_is_told_our_id_and_the_send_goes_out(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue("60/minute", 1, ", hold: 300ms"))
    first = await gate.http.post(SEND, json=a_send("0"))
    began = time.monotonic()
    second = await gate.http.post(SEND, json=a_send("1"))
    assert 0.25 < time.monotonic() - began < 5.0
    assert (first.status_code, second.status_code) == (200, 202)
    told = second.json()
    assert told == {
        "success": True,
        "status": "queued",
        "message_id": told["id"],
        "timestamp": told["timestamp"],
        "id": told["id"],
    }
    assert told["id"].startswith("evt_")
    await until(lambda: has_sent(place, ["0", "1"]))


async def has_sent(place: Place, wanted: list[str]) -> bool:
    return await messages(place) == wanted


async def test_sends_of_a_session_go_in_order_and_never_above_its_bucket(place: Place) -> None:
    gate = await place.gateway(limits=queue("300/minute", 2, ", hold: 100ms"))
    began = time.monotonic()
    wanted = [str(number) for number in range(10)]
    for message in wanted:
        assert (await gate.http.post(SEND, json=a_send(message))).status_code in (200, 202)
    await until(lambda: has_sent(place, wanted), timeout=30.0)
    assert time.monotonic() - began >= (10 - 2) * 0.2 - 0.1


async def test_what_a_worker_refuses_after_its_caller_was_told_our_id_is_a_dead_letter(
    place: Place, store: Store
) -> None:
    gate = await place.gateway(limits=queue("60/minute", 1, ", hold: 200ms"))
    await gate.http.post(SEND, json=a_send())
    assert (await gate.http.post(SEND, json=a_send(to="no phone"))).status_code == 202
    await until(lambda: dead(gate, store, 1))
    (reason,) = await reasons(store)
    assert reason == "worker w1 answered 400: Invalid phone number"


async def dead(gate: Gate, store: Store, wanted: int) -> bool:
    return (await counts(gate, store)).dead == wanted


async def reasons(store: Store) -> list[str]:
    found: list[str] = []
    for partition in range(4):
        (some,) = await store.commands(("HGETALL", f"sl:{{{partition:02d}}}:outbox:reasons"))
        found += [reason.decode() for reason in some.values()]
    return found


async def test_a_send_whose_worker_dies_is_reported_and_not_repeated(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue())
    await place.worker.set(slow={SEND: 5.0})
    sending = asyncio.create_task(gate.http.post(SEND, json=a_send()))
    await until(lambda: leased(gate, store))
    await asyncio.sleep(0.3)
    await place.worker.kill()
    assert problem(await sending) == (502, "worker w1 broke off before it answered")
    await place.worker.start()
    again = await gate.http.post(SEND, json=a_send())
    assert problem(again) == (502, "worker w1 broke off before it answered"), (
        "its caller did not learn what became of it"
    )
    await until(lambda: dead(gate, store, 1))
    assert "it was given to worker w1: " in (await reasons(store))[0]
    assert await place.sent() == 0


async def leased(gate: Gate, store: Store) -> bool:
    return (await counts(gate, store)).leased == 1


async def test_a_500_of_the_worker_is_given_and_its_repeat_gets_the_same(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue())
    await place.worker.set(says={SEND: [500, {"error": "Evaluation failed"}]})
    for _ in range(3):
        answer = await gate.http.post(SEND, json=a_send())
        assert (answer.status_code, answer.json()) == (500, {"error": "Evaluation failed"})
    await until(lambda: dead(gate, store, 1))


async def test_what_a_worker_cannot_take_now_waits_and_goes_in_order(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue(more=", hold: 300ms"))
    await place.worker.set(says={SEND: [503, {"error": "busy"}]})
    answers = [await gate.http.post(SEND, json=a_send(str(number))) for number in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    await place.worker.set(says={})
    await until(lambda: has_sent(place, ["0", "1", "2"]), timeout=30.0)
    assert (await counts(gate, store)).dead == 0


async def test_while_no_worker_can_be_reached_sends_wait(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue(more=", hold: 300ms"))
    await place.worker.kill()
    answers = [await gate.http.post(SEND, json=a_send(str(number))) for number in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    await asyncio.sleep(1.5)
    seen = await counts(gate, store)
    assert (seen.waiting + seen.leased, seen.dead) == (3, 0)


async def test_the_log_says_as_what_a_send_was_stored(place: Place, heard: Heard) -> None:
    gate = await place.gateway(limits=queue("1/hour", 1, ", hold: 200ms"))
    await gate.http.post(SEND, json=a_send("0"))
    promised = (await gate.http.post(SEND, json=a_send("1"))).json()["id"]
    ids = [fields.get("id") for message, fields in heard.lines if message == "request" and fields.get("path") == SEND]
    assert len(ids) == 2
    assert ids[1] == promised


async def test_without_the_shield_sends_are_stored_as_well(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue(more=", hold: 5s"), sessions=", shields: {{repeats: false, bulk: false}}")
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    await hang_up(gate, a_send("left"), after=0.05)
    await until(lambda: has_sent(place, ["hello", "left"]))
    assert (await counts(gate, store)).delivered >= 1


async def test_what_is_no_send_is_refused_as_before(place: Place) -> None:
    limit = "{{id: all, per: [session], rate: 1/hour, burst: 1, over: queue}}"
    gate = await place.gateway(limits=limit)
    answers = [await gate.http.get("/api/sessions/s1/metadata") for _ in range(3)]
    assert 429 in [answer.status_code for answer in answers]


async def test_explain_tells_what_would_become_of_a_send(place: Place) -> None:
    gate = await place.gateway(limits=queue("1/minute", 1))
    asked = HypotheticalRequest(
        "POST", SEND, "127.0.0.1", [("Content-Type", "application/json")], orjson.dumps(a_send())
    )
    found = explain(gate.policies, asked, time.time())
    kept = "stored, and passed on to the worker that owns the session"
    assert found.destination == kept
    assert outcome(found, [1.0]) == f"{kept}, at once, if none of its session waits"
    assert outcome(found, [0.5]) == f"{kept}, in 30.0s, if none of its session waits; 202 with our id"


# --- hours, edits, several gateways, kills


def closed_hours() -> str:
    """An hour that is not now."""
    begin = (time.gmtime().tm_hour + 12) % 24
    return f"{begin:02d}:00-{(begin + 1) % 24:02d}:00 UTC"


async def test_outside_its_hours_a_send_waits_and_an_edit_lets_it_go(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outbox.pace.LOOK_EVERY", 0.3)
    gate = await place.gateway(limits=queue(more=f', hold: 300ms, hours: "{closed_hours()}"'))
    assert (await gate.http.post(SEND, json=a_send())).status_code == 202
    await asyncio.sleep(1.0)
    assert await place.sent() == 0
    edit(place, gate, queue(more=", hold: 300ms"))
    await until(place.sent, timeout=30.0)


def edit(place: Place, gate: Gate, limits: str) -> None:
    text = place.text(port=gate.policies.listen[0].address.port, limits=limits)  # type: ignore[union-attr]
    gate.policies.source.write_text(text.format(store=place.store))


async def test_a_faster_rate_holds_for_what_waits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outbox.pace.LOOK_EVERY", 0.3)
    gate = await place.gateway(limits=queue("1/hour", 1, ", hold: 200ms"))
    for message in ("0", "1", "2"):
        await gate.http.post(SEND, json=a_send(message))
    assert await messages(place) == ["0"]
    edit(place, gate, queue("600/minute", 5, ", hold: 200ms"))
    await until(lambda: has_sent(place, ["0", "1", "2"]), timeout=30.0)


async def test_what_waits_goes_out_when_no_limit_keeps_it_any_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outbox.pace.LOOK_EVERY", 0.3)
    gate = await place.gateway(limits=queue("1/hour", 1, ", hold: 200ms"))
    for message in ("0", "1", "2"):
        await gate.http.post(SEND, json=a_send(message))
    edit(place, gate, "")
    await until(lambda: has_sent(place, ["0", "1", "2"]), timeout=30.0)


async def accepted(gate: Gate, store: Store, wanted: int) -> bool:
    return (await counts(gate, store)).accepted == wanted


async def test_two_gateways_keep_one_order_and_one_pace(place: Place, store: Store) -> None:
    limit = queue("300/minute", 1)
    one, other = await place.gateway(limits=limit), await place.gateway(limits=limit)
    began, wanted = time.monotonic(), [str(number) for number in range(12)]
    sending = []
    for number, message in enumerate(wanted):
        sending.append(
            asyncio.create_task((one, other)[number % 2].http.post(SEND, json=a_send(message), timeout=60.0))
        )
        await until(lambda wanted=number + 1: accepted(one, store, wanted))
    answers = await asyncio.gather(*sending)
    assert {answer.status_code for answer in answers} == {200}, (
        "each gets the worker's answer, whoever gave it the send"
    )
    assert await messages(place) == wanted
    assert time.monotonic() - began >= 11 * 0.2 - 0.1


async def test_a_send_whose_gateway_was_killed_is_unknown_and_not_sent_again(place: Place, store: Store) -> None:
    """The note is that of a gateway that is gone."""
    gate = await place.gateway(limits=queue())
    await Results(store, "gone").hand_over("evt_killed", "s1", Target("w1", place.worker.url), "attempt-1")
    await accept(gate, store, "evt_killed")
    await until(lambda: dead(gate, store, 1), timeout=30.0)
    (reason,) = await reasons(store)
    assert re.fullmatch(r"it was given to worker w1 at \S+Z, and the gateway that did so is gone", reason)
    assert await place.sent() == 0


async def test_it_is_sent_again_where_its_limits_say_so(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue(more=", unknown: repeat"))
    await Results(store, "gone").hand_over("evt_killed", "s1", Target("w1", place.worker.url), "attempt-1")
    await accept(gate, store, "evt_killed")
    await until(place.sent, timeout=30.0)
    assert (await counts(gate, store)).dead == 0


async def test_while_the_gateway_that_gave_it_to_a_worker_is_alive_others_wait(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue())
    await store.commands(("ZADD", "sl:{gateways}", (time.time() + 2) * 1000, "busy"))
    other = Results(store, "busy")
    await other.hand_over("evt_busy", "s1", Target("w1", place.worker.url), "attempt-1")
    await accept(gate, store, "evt_busy")
    await asyncio.sleep(1.0)
    await other.end("evt_busy", "s1", "w1", Refusal(404, "no"), dead="", dead_if_promised="", kept=60.0)
    await until(lambda: delivered(gate, store), timeout=30.0)
    assert await place.sent() == 0


async def delivered(gate: Gate, store: Store) -> bool:
    return (await counts(gate, store)).delivered == 1


async def accept(gate: Gate, store: Store, send: str) -> None:
    """As a gateway that is gone has stored it."""
    fields = ((b"Sluice-Sent-By", b"127.0.0.1 0 http  x"), (b"Host", b"a"), (b"Content-Type", b"application/json"))
    event = Event(send, "message_send", "s1", SEND.encode(), fields, orjson.dumps(a_send()), "normal")
    await Inbox(store).accept(event, [open_queue(store, OF_SENDS, gate.policies).destination])


async def test_a_person_has_an_unknown_send_made_again(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue(more=", hold: 200ms"))
    await place.worker.set(says={SEND: [500, {"error": "Evaluation failed"}]})
    await gate.http.post(SEND, json=a_send())
    await until(lambda: dead(gate, store, 1))
    await place.worker.set(says={})
    ids = [entry.split(b"\0")[2].decode() for partition in range(4) for entry in await dead_entries(store, partition)]
    there = Deployed(gate.policies, store, Registry(store, 3.0))
    done = await dead_letters.replay(there, dead_letters.ReplayDeadLetters(endpoint="outbox", ids=tuple(ids)))
    assert isinstance(done, dead_letters.Replayed)
    await until(place.sent)


@dataclass(frozen=True)
class Deployed:
    policies: Policies
    store: Store
    registry: Registry


async def dead_entries(store: Store, partition: int) -> list[bytes]:
    (found,) = await store.commands(("ZRANGE", f"sl:{{{partition:02d}}}:outbox:dead", 0, -1))
    return list(found)


async def test_a_caller_that_hangs_up_and_repeats_gets_the_answer_of_the_first(place: Place) -> None:
    gate = await place.gateway(limits=queue())
    await place.worker.set(slow={SEND: 1.0})
    await hang_up(gate, a_send())
    answer = await gate.http.post(SEND, json=a_send())
    assert answer.status_code == 200
    assert await place.sent() == 1


async def test_a_bulk_send_goes_piece_by_piece_and_its_caller_gets_one_answer(place: Place, store: Store) -> None:
    gate = await place.gateway(limits=queue(burst=10))
    to = ["4915112345670", "no phone", "4915112345672"]
    answer = await gate.http.post(BULK, json={"session_id": "s1", "recipients": to, "message": "all"})
    said = answer.json()
    assert (answer.status_code, said["success"], said["total"], said["successful"], said["failed"]) == (
        200,
        True,
        3,
        2,
        1,
    )
    assert [one["recipient"] for one in said["results"]] == [to[0], to[2]]
    assert said["errors"] == [{"recipient": "no phone", "error": "Invalid phone number"}]
    assert (await counts(gate, store)).delivered == 3


async def test_a_bulk_send_above_the_pace_is_told_ids_for_what_waits(place: Place) -> None:
    gate = await place.gateway(limits=queue("20/minute", 1, ", hold: 300ms"))
    to = [f"491511234567{number}" for number in range(3)]
    answer = await gate.http.post(BULK, json={"session_id": "s1", "recipients": to, "message": "all"})
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["status"], said["total"], said["failed"]) == (202, "queued", 3, 0)
    assert [one["message_id"].startswith("evt_") for one in said["results"][1:]] == [True, True]
    assert said["results"][1]["message_id"] == f"{said['id']}-2"
    await until(lambda: has_sent(place, ["all"] * 3), timeout=30.0)


async def test_a_callers_own_key_names_the_send(place: Place) -> None:
    gate = await place.gateway(limits=queue())
    key = {"Idempotency-Key": "order-4711"}
    first = await gate.http.post(SEND, json=a_send(), headers=key)
    again = await gate.http.post(SEND, json=a_send(), headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content
    assert await place.sent() == 1
    other = await gate.http.post(SEND, json=a_send("other"), headers=key)
    assert problem(other)[0] == 422
