"""Gateways and stores that are killed or away while sends wait: each goes out once, in order, or is reported."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from redis import Redis
from redis.exceptions import RedisError

from gateway.outbox import outbox
from sessions.registry import Registry, Worker
from sluice.store import embedded
from sluice.store.client import Store
from tests.gateway.outbox.test_outbox import counts, dead, has_sent, messages, queue, reasons
from tests.gateway.running import Gate, problem, receiver
from tests.gateway.store_link import link_to
from tests.gateway.workers.sending import SEND, Place, a_send, at_work
from tests.sessions.making import place as place_session
from tests.waiting import until

pytestmark = pytest.mark.anyio
TOKEN = "a-token-that-nobody-guesses-0123456789"
ROOT = Path(__file__).parent.parent.parent.parent


@asynccontextmanager
async def process(
    place: Place, port: int, limits: str, more: str = ""
) -> AsyncIterator[tuple[httpx2.AsyncClient, Callable[[], None]]]:
    """A gateway that can be killed. `more`: of its policies, which are in the folder `gateway-<port>`."""
    file = place.folder / f"gateway-{port}" / "policies.yaml"
    file.parent.mkdir()
    file.write_text(place.text(port, limits, more=more).format(store=place.store))
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sluice", "gateway", "--policies", str(file)),
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": TOKEN},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60.0) as http:
            await until(lambda: answers(http), timeout=60)
            yield http, running.kill
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()


async def answers(http: httpx2.AsyncClient) -> bool:
    try:
        return bool((await http.get("/api/sessions/s1/status")).status_code == 200)
    except httpx2.HTTPError:
        return False


@pytest.fixture
async def place(tmp_path: Path, store_url: str, free_port: Callable[[], int]) -> AsyncIterator[Place]:
    async with at_work(store_url, tmp_path, free_port(), "--send-time", "0.05") as made:
        yield made


@pytest.mark.slow
async def test_what_a_killed_gateway_had_given_to_a_worker_is_reported_and_not_repeated(
    place: Place, store: Store, free_port: Callable[[], int]
) -> None:
    limit = queue()
    other = await place.gateway(limits=limit)
    await place.worker.set(slow={SEND: 3.0})
    async with process(place, free_port(), limit) as (http, kill):
        sending = [asyncio.create_task(http.post(SEND, json=a_send(str(number)))) for number in range(8)]
        await asyncio.sleep(1.5)
        kill()
        for one in sending:
            with pytest.raises(httpx2.HTTPError):
                await one
    await place.worker.set(slow={})
    # Whichever gateway was at one of them: nothing goes out twice, and nothing is lost without a word.
    await until(lambda: nothing_waits(other, store), timeout=90.0)
    seen, sent = await counts(other, store), await messages(place)
    assert len(set(sent)) == len(sent)
    assert seen.delivered + seen.dead == 8
    for reason in await reasons(store):
        assert "the gateway that did so is gone" in reason
    assert len(sent) in (seen.delivered, seen.delivered + seen.dead)


@contextlib.contextmanager
def full() -> Iterator[str]:
    """The address of a worker to which no connection is made, as it accepts none."""
    with socket.socket() as listening, socket.socket() as before:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        before.connect(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
async def test_what_a_killed_gateway_had_asked_no_worker_for_yet_goes_out_and_nothing_of_it_is_unknown(
    place: Place, store: Store, free_port: Callable[[], int]
) -> None:
    """It waited for connections; that it gave a send to a worker is noted right before the first byte leaves."""
    limit, sessions, registry = queue(), [f"o{number}" for number in range(10)], Registry(store, 60.0)
    with full() as address:
        await registry.register(Worker("own", "1", address, 20))
        for session in sessions:
            await place_session(registry, session)
        async with process(place, free_port(), limit) as (http, kill):
            sending = [asyncio.create_task(http.post(SEND, json=a_send("m", session))) for session in sessions]
            other = await place.gateway(limits=limit)
            await until(lambda: all_leased(other, store, len(sessions)), timeout=30.0)
            kill()
            await asyncio.gather(*sending, return_exceptions=True)
        async with receiver() as worker:
            await registry.deregister("own", "1")
            await registry.register(Worker("own", "2", worker.url, 20))
            await until(lambda: all_delivered(other, store, len(sessions)), timeout=90.0)
            assert (await counts(other, store)).dead == 0


async def all_leased(gate: Gate, store: Store, wanted: int) -> bool:
    return (await counts(gate, store)).leased == wanted


async def all_delivered(gate: Gate, store: Store, wanted: int) -> bool:
    return (await counts(gate, store)).delivered == wanted


async def nothing_waits(gate: Gate, store: Store) -> bool:
    seen = await counts(gate, store)
    return seen.waiting + seen.leased == 0


@pytest.mark.slow
async def test_what_waits_for_its_token_goes_on_at_another_gateway_and_its_repeat_gets_the_answer(
    place: Place, store: Store, free_port: Callable[[], int]
) -> None:
    limit = queue("12/minute", 1)
    async with process(place, free_port(), limit) as (http, kill):
        assert (await http.post(SEND, json=a_send("0"))).status_code == 200
        waiting = asyncio.create_task(http.post(SEND, json=a_send("1")))
        await asyncio.sleep(1.0)
        kill()
        with pytest.raises(httpx2.HTTPError):
            await waiting
    other = await place.gateway(limits=limit)
    again = await other.http.post(SEND, json=a_send("1"), timeout=60.0)
    assert again.status_code == 200
    assert await messages(place) == ["0", "1"]
    assert (await counts(other, store)).dead == 0


@asynccontextmanager
async def own_store() -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A store that can be killed and started again."""
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp") as name:
        folder = Path(name)
        embedded.make_folders(folder)
        running: list[subprocess.Popen[bytes]] = []

        def begin() -> None:
            for one in running:
                one.kill()
                one.wait()
            running.append(subprocess.Popen(embedded.command(folder, "second"), stdout=subprocess.DEVNULL))

        begin()
        try:
            url = embedded.url(folder)
            await until(lambda: pongs(url))
            yield url, begin
        finally:
            running[-1].kill()
            running[-1].wait()


def pongs(url: str) -> bool:
    try:
        with Redis.from_url(url) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False


@pytest.mark.slow
async def test_a_store_that_is_killed_and_started_again_loses_and_doubles_nothing(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with (
        own_store() as (url, restart),
        at_work(url, tmp_path, free_port(), "--send-time", "0.05") as place,
    ):
        gate = await place.gateway(limits=queue("600/minute", 1, ", hold: 100ms"))
        wanted = [str(number) for number in range(30)]
        for message in wanted:
            assert (await gate.http.post(SEND, json=a_send(message), timeout=30.0)).status_code in (200, 202)
            if message == "20":
                restart()
        await until(lambda: has_sent(place, wanted), timeout=60.0)
        there = Store(url, timeout=5.0)
        assert await dead(gate, there, 0)
        await there.close()


async def test_a_store_that_is_away_is_503_and_the_repeat_is_the_same_send(
    tmp_path: Path, store_url: str, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_HELD", 1.0)
    async with (
        link_to(store_url) as link,
        at_work(link.url, tmp_path, free_port(), "--send-time", "0.05") as place,
    ):
        gate = await place.gateway(limits=queue())
        link.block()
        refused = await gate.http.post(SEND, json=a_send(), timeout=60.0)
        assert problem(refused) == (503, "the send could not be stored; send it again")
        assert refused.headers["retry-after"] == "2"
        link.mend()
        await asyncio.sleep(1.0)
        again = await gate.http.post(SEND, json=a_send(), timeout=60.0)
        assert again.status_code == 200
        assert await messages(place) == ["hello"]
