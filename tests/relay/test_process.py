"""The relay process, whose policies are edited while it delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from gateway.policies import Policies, edits, load
from relay import process
from relay.process import open_queue
from relay.queue.codec import Event, new_id
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.e2e.receiver import Receiver, receiving
from tests.heard import Heard
from tests.relay.making import accept
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


class Running:
    """A relay with the endpoints `a` and `b`, each a receiver."""

    def __init__(self, file: Path, store: Store, heard: Heard, ports: dict[str, int]) -> None:
        self._file = file
        self._store = store
        self._heard = heard
        self._ports = ports
        self.receivers: dict[str, Receiver] = {}
        self.stop = Stop()
        self.policies = self.write("a", "b")

    def write(self, *endpoints: str, **more: str) -> Policies:
        rows = [f"    {n}: {{url: 'http://127.0.0.1:{self._ports[n]}'{more.get(n, '')}}}\n" for n in endpoints]
        self._file.write_text("version: 1\nrelay:\n  endpoints:\n" + "".join(rows))
        return load(self._file)

    async def edit(self, *endpoints: str, **more: str) -> None:
        before = self._heard.messages().count("policies.loaded")
        self.policies = self.write(*endpoints, **more)
        await until(lambda: self._heard.messages().count("policies.loaded") > before, what="the edit to be live")

    async def accept(self, endpoint: str, *sequence: int) -> None:
        queue = open_queue(self._store, self.policies.relay.endpoints[endpoint], self.policies)
        for number in sequence:
            body = orjson.dumps({"data": {"session_id": "s", "sequence": number}})
            await accept(queue, Event(new_id(), "message_received", "s", b"/hook", (), body, "normal"))

    def got(self, endpoint: str) -> list[int]:
        return [one.sequence for one in self.receivers[endpoint].got]


@pytest.fixture
async def relay(tmp_path: Path, store: Store, heard: Heard, free_port: Callable[[], int]) -> AsyncIterator[Running]:
    ports = {name: free_port() for name in ("a", "b", "c")}
    running = Running(tmp_path / "policies.yaml", store, heard, ports)
    async with AsyncExitStack() as stack:
        for name, port in ports.items():
            running.receivers[name] = await stack.enter_async_context(receiving(port))
        task = asyncio.create_task(process.run(edits.live(running.policies), store.url, running.stop))
        try:
            yield running
        finally:
            for receiver in running.receivers.values():
                receiver.lets_go.set()
            running.stop.request()
            async with asyncio.timeout(60):
                await task


async def test_an_endpoint_that_an_edit_does_not_touch_goes_on(relay: Running) -> None:
    relay.receivers["a"].lets_go.clear()
    await relay.accept("a", 1, 2)
    await until(lambda: relay.receivers["a"].waiting, what="an attempt at a")
    await relay.edit("a", "b", b=", timeout: 3s")
    await relay.accept("b", 1)
    await until(lambda: relay.got("b") == [1], what="b at work with its new policy")
    assert relay.receivers["a"].waiting == 1
    relay.receivers["a"].lets_go.set()
    await until(lambda: relay.got("a") == [1, 2], what="a to go on")


async def test_an_endpoint_that_an_edit_adds_is_served_and_woken_by_what_comes(relay: Running) -> None:
    await relay.edit("a", "b", "c")
    for number in range(1, 21):  # without the channel each would take half a second
        await relay.accept("c", number)
        await until(lambda number=number: number in relay.got("c"))
    assert relay.got("c") == list(range(1, 21))


async def test_an_endpoint_edited_again_and_again_in_the_middle_of_an_attempt_repeats_nothing(relay: Running) -> None:
    relay.receivers["a"].lets_go.clear()
    await relay.accept("a", 1, 2, 3)
    await until(lambda: relay.receivers["a"].waiting, what="an attempt")
    for seconds in (11, 12, 13):
        await relay.edit("a", "b", a=f", timeout: {seconds}s")
    await relay.edit("b")
    await relay.edit("a", "b", a=", concurrency: 1")
    assert relay.receivers["a"].waiting == 1
    relay.receivers["a"].lets_go.set()
    await until(lambda: relay.got("a") == [1, 2, 3], what="all of them, once")


async def test_it_stops_in_the_middle_of_an_edit_with_what_is_in_flight_finished(relay: Running) -> None:
    relay.receivers["a"].lets_go.clear()
    await relay.accept("a", 1, 2)
    await until(lambda: relay.receivers["a"].waiting, what="an attempt")
    await relay.edit("a", "b", a=", concurrency: 1")
    relay.stop.request()
    relay.receivers["a"].lets_go.set()
    await until(lambda: relay.got("a") == [1], what="the one under way")


async def test_the_order_holds_for_all_that_waits_from_the_edit_on(relay: Running) -> None:
    relay.receivers["a"].lets_go.clear()
    await relay.edit("a", "b", a=", order: none, concurrency: 2")
    await relay.accept("a", *range(1, 31))
    await until(lambda: relay.receivers["a"].waiting == 2, what="two attempts")
    await relay.edit("a", "b", a=", order: session, concurrency: 2")
    await relay.accept("a", *range(31, 41))
    relay.receivers["a"].lets_go.set()
    await until(lambda: len(relay.got("a")) == 40, what="all of them")
    begun, rest = relay.got("a")[:2], relay.got("a")[2:]
    assert rest == sorted(set(range(1, 41)) - set(begun))
