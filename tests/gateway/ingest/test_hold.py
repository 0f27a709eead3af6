"""No webhook is lost at the door: held while it cannot be stored, then refused as its sender repeats it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import orjson
import pytest

from gateway.ingest import hold
from gateway.ingest.hold import Hold
from relay.process import open_queue
from relay.queue.errors import BacklogFull
from relay.queue.inbox import Accepted, Inbox
from relay.queue.layout import own_key
from relay.queue.queue import Queue, Settlement
from sluice.config import Secret, Signature
from sluice.http.bodies import BodyBudget
from sluice.http.senders import REDUCED_CAPACITY, SENDERS, USUAL, Sender
from sluice.http.signatures import sign
from sluice.store.client import Store, StoreAway, StoreRefused
from tests.e2e.contract_sender import ContractSender
from tests.gateway.running import POLICIES, SIGNATURE, Gate, gateway
from tests.relay.making import event
from tests.sluice.store.store_servers import Server
from tests.waiting import until

pytestmark = pytest.mark.anyio

PATIENT = SENDERS["blazz"]
KEYED = Signature("partner", "body-sha256", Secret(b"quite-secret"))


@pytest.fixture
def server(short_folder: Path, free_port: Callable[[], int]) -> Iterator[Server]:
    server = Server(short_folder, free_port())
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def guarded(folder: Path, store_url: str, text: str = POLICIES) -> AsyncIterator[Gate]:
    async with gateway(folder, store_url, "http://127.0.0.1:1", text=text) as gate:
        yield gate


def with_backlog(events: int) -> str:
    return POLICIES.replace("relay:\n", f"relay:\n  backlog: {{{{events: {events}}}}}\n")


def reason(response: httpx2.Response) -> tuple[int, str, str]:
    fields = response.json()
    return response.status_code, fields["type"], fields["detail"]


def a_body(n: int, session: str = "s1") -> bytes:
    about = {"session_id": session, "message": {"id": f"m{n}"}, "n": n}
    return orjson.dumps({"event": "message_sent", "data": about})


async def drain(queue: Queue, settled: list[Settlement] | None = None) -> list[bytes]:
    """Delivers all that waits; the bodies in their order."""
    bodies: list[bytes] = []
    settled = settled or []
    while True:
        queue.look_everywhere()
        leased = (await queue.poll(settled, 100)).leased
        if not leased:
            return bodies
        bodies += [delivery.body for delivery in leased]
        settled = [Settlement(delivery, "delivered") for delivery in leased]


# --- one webhook


async def test_while_the_store_is_away_a_webhook_is_held_and_stored_when_it_is_back(
    tmp_path: Path, server: Server
) -> None:
    async with guarded(tmp_path, server.url) as gate:
        server.kill()
        begin = time.monotonic()
        posted = [asyncio.create_task(gate.post_event("message_sent")) for _ in range(3)]
        await asyncio.sleep(4)  # longer than whoever knows 503 is held
        assert not any(task.done() for task in posted)
        server.start()
        assert [(await task).status_code for task in posted] == [202] * 3
        assert time.monotonic() - begin < 8


@pytest.mark.parametrize("path", ["/hooks/message", "/partner/message"])
async def test_after_that_it_is_refused_with_what_its_sender_repeats(
    tmp_path: Path, hold_for: Callable[[float], None], path: str
) -> None:
    hold_for(0.3)
    text = POLICIES.replace(
        "routes:\n",
        "  partner: {{preset: body-sha256, secret: env:SECRET}}\nroutes:\n"
        "  - {{path: /partner/*, verify: partner, event: call, relay: laravel}}\n",
    )
    async with guarded(tmp_path, "unix:///nonexistent/store.sock", text) as gate:
        if path == "/hooks/message":
            answer = await gate.post_event()
            assert reason(answer) == (429, REDUCED_CAPACITY, "the event could not be stored; send it again")
        else:
            answer = await gate.http.post(path, content=b"{}", headers=_proof(b"{}"))
            assert reason(answer) == (503, "about:blank", "the event could not be stored; send it again")
        assert answer.headers["retry-after"] == "2"


def _proof(body: bytes) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in sign(KEYED, body, 0.0)}


async def test_a_full_backlog_holds_webhooks_until_there_is_room_in_their_order(
    tmp_path: Path, store_url: str, store: Store
) -> None:
    text = with_backlog(4)
    async with guarded(tmp_path, store_url, text) as gate:
        queue = open_queue(store, gate.policies.relay.endpoints["laravel"], gate.policies)
        accepted = 0
        while True:
            posted = asyncio.create_task(gate.post_event(body=a_body(accepted)))
            done, _ = await asyncio.wait([posted], timeout=0.5)
            if not done:
                break
            assert posted.result().status_code == 202
            accepted += 1
        more = []
        for n in range(accepted + 1, accepted + 4):
            more.append(asyncio.create_task(gate.post_event(body=a_body(n))))
            await asyncio.sleep(0.05)
        bodies: list[bytes] = []

        async def all_delivered() -> bool:
            bodies.extend(await drain(queue))
            return len(bodies) == accepted + 4

        await until(all_delivered)
        assert [(await task).status_code for task in (posted, *more)] == [202] * 4
        assert [orjson.loads(body)["data"]["n"] for body in bodies] == list(range(accepted + 4))


async def test_a_full_backlog_is_429_after_the_hold_and_says_which(
    tmp_path: Path, store_url: str, hold_for: Callable[[float], None]
) -> None:
    hold_for(0.3)
    async with guarded(tmp_path, store_url, with_backlog(1)) as gate:
        answers = [await gate.post_event(body=a_body(n)) for n in range(6)]
    assert answers[0].status_code == 202
    assert reason(answers[-1]) == (429, REDUCED_CAPACITY, "the backlog of laravel is full (relay.backlog)")
    assert answers[-1].headers["retry-after"] == "30"


async def test_a_limit_that_denies_while_the_store_is_away_holds_webhooks_too(tmp_path: Path, server: Server) -> None:
    text = POLICIES.replace(
        "limits:\n", "limits:\n  - {{id: strict, event: message_sent, rate: 9/second, when_store_away: deny}}\n"
    )
    async with guarded(tmp_path, server.url, text) as gate:
        server.kill()
        posted = asyncio.create_task(gate.post_event("message_sent"))
        await asyncio.sleep(1)
        assert not posted.done()
        server.start()
        assert (await posted).status_code == 202


async def test_a_limit_that_denies_is_429_after_the_hold(tmp_path: Path, hold_for: Callable[[float], None]) -> None:
    hold_for(0.3)
    text = POLICIES.replace(
        "limits:\n", "limits:\n  - {{id: strict, event: message_sent, rate: 9/second, when_store_away: deny}}\n"
    )
    async with guarded(tmp_path, "unix:///nonexistent/store.sock", text) as gate:
        answer = await gate.post_event("message_sent")
    assert reason(answer) == (429, REDUCED_CAPACITY, "limit strict cannot be decided right now")


async def test_a_webhook_that_we_fail_to_handle_is_429_and_no_500(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("gateway.ingest.webhooks.takes", broken)
    async with guarded(tmp_path, store_url) as gate:
        answer = await gate.post_event()
    assert reason(answer) == (429, REDUCED_CAPACITY, "the request could not be handled; send it again")


# --- the bounds


async def test_what_is_held_is_bounded_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    held = Hold(Inbox(absent), BodyBudget(1000))
    monkeypatch.setattr(hold, "MAX_HELD", 3)
    patient = Sender(0.5, 429, waits_for_room=True)

    async def outcome(size: int) -> tuple[str, float]:
        begin = time.monotonic()
        with pytest.raises(StoreAway):
            await held.accept(event(body=b"x" * size), [], patient)
        return ("held" if time.monotonic() - begin > 0.4 else "refused"), size

    assert [await outcome(501)] == [("refused", 501)], "half of the budget for bodies"
    together = await asyncio.gather(*(outcome(size) for size in (200, 200, 200, 50, 50)))
    assert together == [("held", 200), ("held", 200), ("refused", 200), ("held", 50), ("refused", 50)]
    assert (await outcome(500))[0] == "held", "what was held is let go"
    await absent.close()


async def test_one_that_is_refused_for_itself_does_not_hold_up_the_others(store: Store) -> None:
    """What goes together in a call is refused together: the others are tried without it."""
    queue = Queue(store, "laravel", lease=30.0, max_bytes=10**6, max_events=1000)
    held = Hold(Inbox(store), BodyBudget(10**6))
    patient = Sender(3.0, 429, waits_for_room=True)
    broken = Queue(store, "broken", lease=30.0, max_bytes=10**6, max_events=1000)
    for partition in range(4):
        await store.commands(("SET", own_key("broken", partition, "queue"), "not a queue"))
    outcomes = await asyncio.gather(
        held.accept(event("s0"), [broken.destination], patient),
        *(held.accept(event(f"s{n}"), [queue.destination], patient) for n in range(1, 9)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StoreRefused, *[Accepted] * 8]
    assert (await queue.counts()).waiting == 8


async def test_whoever_knows_503_is_told_of_a_full_backlog_at_once(store: Store) -> None:
    queue = Queue(store, "laravel", lease=30.0, max_bytes=10**6, max_events=1)
    held = Hold(Inbox(store), BodyBudget(10**6))
    await held.accept(event(), [queue.destination], USUAL)
    begin = time.monotonic()
    with pytest.raises(BacklogFull):
        await held.accept(event(), [queue.destination], USUAL)
    assert time.monotonic() - begin < 1


async def test_only_what_is_refused_in_the_end_counts_as_refused(store: Store) -> None:
    queue = Queue(store, "laravel", lease=30.0, max_bytes=10**6, max_events=1)
    held, patient = Hold(Inbox(store), BodyBudget(10**6)), Sender(hold=1.0, waits_for_room=True)
    await held.accept(event("s1"), [queue.destination], patient)
    waiting = asyncio.create_task(held.accept(event("s2"), [queue.destination], patient))
    await asyncio.sleep(0.5)
    await drain(queue)
    assert not (await waiting).repeat
    assert (await queue.counts()).refused == 0
    with pytest.raises(BacklogFull):
        await held.accept(event("s3"), [queue.destination], patient)
    assert (await queue.counts()).refused == 1


# --- the existing workers, with their repeats


@pytest.mark.slow
async def test_with_the_store_away_for_30_seconds_all_that_the_workers_emit_is_stored(
    tmp_path: Path, server: Server
) -> None:
    """A worker has ten sockets, and each webhook that cannot be stored keeps one of them busy."""
    async with guarded(tmp_path, server.url) as gate:
        workers = [ContractSender(gate.port, SIGNATURE) for _ in range(10)]
        server.kill()
        sending = [asyncio.create_task(workers[n % 10].send(a_body(n, f"s{n % 10}"))) for n in range(60)]
        await asyncio.sleep(30)
        server.start()
        await asyncio.gather(*sending)
        assert [one.lost for one in workers] == [{}] * 10
        store = Store(server.url, timeout=5.0)
        queue = open_queue(store, gate.policies.relay.endpoints["laravel"], gate.policies)
        assert sorted(set(await drain(queue))) == sorted(a_body(n, f"s{n % 10}") for n in range(60))
        await store.close()


@pytest.mark.slow
async def test_with_a_full_backlog_for_20_seconds_all_that_the_workers_emit_is_stored(
    tmp_path: Path, store_url: str, store: Store
) -> None:
    async with guarded(tmp_path, store_url, with_backlog(8)) as gate:
        queue = open_queue(store, gate.policies.relay.endpoints["laravel"], gate.policies)
        workers = [ContractSender(gate.port, SIGNATURE) for _ in range(10)]
        sending = [asyncio.create_task(workers[n % 10].send(a_body(n, f"s{n % 10}"))) for n in range(60)]
        await asyncio.sleep(20)
        arrived: list[bytes] = []

        async def all_answered() -> bool:
            arrived.extend(await drain(queue))
            return all(task.done() for task in sending)

        await until(all_answered, timeout=60)
        arrived += await drain(queue)
        assert [one.lost for one in workers] == [{}] * 10
        assert sorted(set(arrived)) == sorted(a_body(n, f"s{n % 10}") for n in range(60))
