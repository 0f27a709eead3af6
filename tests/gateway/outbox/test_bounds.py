"""What keeps sends waiting: a full backlog, a bucket of a day, hours, a session that is restored or that moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest

from gateway.outbox import handing
from sessions.registry import Registry, Worker
from sluice.store.client import Store
from tests.gateway.outbox.test_kills import TOKEN, process
from tests.gateway.outbox.test_outbox import closed_hours, counts, edit, has_sent, messages, queue
from tests.gateway.running import Gate, problem, receiver
from tests.gateway.workers.sending import BULK, SEND, Place, a_send, at_work
from tests.sessions.making import place as place_session
from tests.waiting import until

pytestmark = pytest.mark.anyio
BACKLOG = """relay: {{backlog: {{events: 3}}}}
console: {{token: env:TOKEN}}"""


@pytest.fixture
async def place(tmp_path: Path, store_url: str, free_port: Callable[[], int]) -> AsyncIterator[Place]:
    async with at_work(store_url, tmp_path, free_port(), "--send-time", "0.05") as made:
        yield made


@pytest.mark.slow
async def test_a_full_backlog_is_told_to_the_caller_by_status_and_by_the_metrics(
    place: Place, store: Store, free_port: Callable[[], int]
) -> None:
    port, limit = free_port(), queue(more=f', hold: 100ms, hours: "{closed_hours()}"')
    async with process(place, port, limit, BACKLOG) as (http, _):
        answers = [await http.post(SEND, json=a_send(str(number))) for number in range(3)]
        assert [answer.status_code for answer in answers] == [202] * 3
        over = await http.post(SEND, json=a_send("over"))
        assert problem(over) == (503, "too many sends wait for their workers (relay.backlog)")
        assert over.headers["retry-after"] == "30"
        bulk = {"session_id": "s1", "recipients": ["491511", "491512"], "message": "all"}
        assert (await http.post(BULK, json=bulk)).status_code == 503
        console = {"Authorization": f"Bearer {TOKEN}"}
        shown = (await http.get("/_sluice/metrics", headers=console)).text
        assert 'sluice_outbox_sends_total{what="refused"} 3.0' in shown

        async def say(sentence: str) -> bool:
            answer = await http.get("/_sluice/api/status", headers=console)
            return any(one.startswith(sentence) for one in answer.json()["messages"])

        await until(lambda: say("outbox: the backlog is 100% full; at 100% sends are refused"), timeout=30.0)
        await until(lambda: say("outbox: 3 sends were refused in the last"), timeout=30.0)
        file = place.folder / f"gateway-{port}" / "policies.yaml"
        file.write_text(file.read_text().replace("events: 3", "events: 100"))  # the cure that it names

        async def is_taken() -> bool:
            return bool((await http.post(SEND, json=a_send("again"))).status_code == 202)

        await until(is_taken, timeout=30.0)


async def test_what_waits_goes_out_in_order_when_its_worker_has_restored_the_session(
    place: Place, store: Store
) -> None:
    gate = await place.gateway(limits=queue(more=", hold: 100ms"))
    await until(lambda: Registry(store, 3.0).wanted("s1"), what="it to be noted that the worker has the session")
    await place.worker.kill()
    wanted = [str(number) for number in range(3)]
    for message in wanted:
        assert (await gate.http.post(SEND, json=a_send(message))).status_code == 202
    await place.worker.start()

    async def has_said_404() -> bool:
        """Which is final for who asks it directly."""
        asked = (await place.worker.state())["asked"]
        return any((one["path"], one["status"]) == (SEND, 404) for one in asked)

    await place.worker.set(says={"/cleanup/stats": (503, {"error": "Service Unavailable"})})  # it restores its sessions
    await until(has_said_404, timeout=30.0)
    await place.worker.ask("POST", "/api/sessions", json={"session_id": "s1", "workspace_id": 1, "account_id": "a"})
    await until(lambda: has_sent(place, wanted), timeout=60.0)
    assert (await counts(gate, store)).dead == 0


async def test_what_waits_while_its_session_moves_goes_out_in_order_at_the_next_worker(
    place: Place, store: Store
) -> None:
    registry = Registry(store, 60.0)
    async with receiver() as first, receiver() as second:
        first.response = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        await registry.register(Worker("a", "1", first.url, 5))
        await place_session(registry, "o1")
        gate = await place.gateway(limits=queue(more=", hold: 100ms"))
        for number in range(3):
            assert (await gate.http.post(SEND, json=a_send(str(number), "o1"))).status_code == 202
        await until(lambda: len(first.bodies) > 0, timeout=30.0)
        await registry.register(Worker("b", "1", second.url, 5))
        await registry.move("o1", "b")
        await registry.beat("a", "1", {}, {})  # it has stopped it
        await until(lambda: len(second.bodies) == 3, timeout=60.0)
        assert [orjson.loads(body)["message"] for body in second.bodies] == ["0", "1", "2"]
        await until(lambda: has_delivered(gate, store, 3), timeout=30.0)
        assert (await counts(gate, store)).dead == 0


async def has_delivered(gate: Gate, store: Store, wanted: int) -> bool:
    return (await counts(gate, store)).delivered == wanted


async def test_a_bucket_for_the_day_holds_what_that_for_the_minute_would_let_go(
    place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outbox.pace.LOOK_EVERY", 0.3)
    day = "{{id: day, event: message_send, per: [session], rate: %d/day, burst: %d, over: queue, hold: 100ms}}"
    gate = await place.gateway(limits=f"{queue(burst=2, more=', hold: 100ms')}, {day % (3, 3)}")
    wanted = [str(number) for number in range(5)]
    for message in wanted:
        assert (await gate.http.post(SEND, json=a_send(message))).status_code in (200, 202)
    await until(lambda: has_sent(place, wanted[:3]), timeout=30.0)
    other = [await gate.http.post(SEND, json=a_send(message, "s2")) for message in wanted[:2]]
    assert {answer.status_code for answer in other} <= {200, 202}
    await until(lambda: has_sent_of(place, "s2", wanted[:2]), timeout=30.0)
    assert await messages(place) == wanted[:3], "each session has a day of its own"
    edit(place, gate, f"{queue(burst=2, more=', hold: 100ms')}, {day % (86400, 50)}")
    await until(lambda: has_sent(place, wanted), timeout=30.0)
    assert (await counts(gate, store)).dead == 0


async def has_sent_of(place: Place, session: str, wanted: list[str]) -> bool:
    return await messages(place, session) == wanted


class Clock:
    """In place of the module `time`, where it is asked what the clocks show."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.monotonic, self.strftime, self.gmtime = time.monotonic, time.strftime, time.gmtime

    def time(self) -> float:
        return time.time() + self.ahead

    def show(self, moment: str, zone: str) -> None:
        self.ahead = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone)).timestamp() - time.time()


async def test_sends_go_from_the_beginning_of_their_hours_over_midnight_until_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the night on which clocks in Berlin are set back."""
    zone, clock = "Europe/Berlin", Clock()
    monkeypatch.setattr("gateway.outbox.pace.LOOK_EVERY", 0.3)
    monkeypatch.setattr(handing, "time", clock)
    clock.show("2026-10-24T21:00:00", zone)
    gate = await place.gateway(limits=queue(more=f', hold: 100ms, hours: "22:00-06:00 {zone}"'))
    wanted: list[str] = []
    for closed, opened in (
        ("2026-10-24T21:00:00", "2026-10-24T22:00:01"),
        ("2026-10-24T21:30:00", "2026-10-25T00:00:00"),
        ("2026-10-24T21:59:00", "2026-10-25T02:30:00"),
        ("2026-10-25T06:00:01", "2026-10-25T22:10:00"),
    ):
        clock.show(closed, zone)
        assert (await gate.http.post(SEND, json=a_send(closed))).status_code == 202
        await asyncio.sleep(0.7)
        assert await messages(place) == wanted
        clock.show(opened, zone)
        wanted.append(closed)
        await until(lambda: has_sent(place, wanted), timeout=30.0)
