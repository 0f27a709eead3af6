from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from sessions import api as worker_api
from sessions.changes import Changes
from sessions.keeper import Keeper
from sessions.keys import Key, Keys
from sessions.membership import Membership
from sessions.registry import Owner, Registry, Reserved, Unknown, UnknownWorker, Unowned
from sessions.wakeups import Wakeups
from sluice.config import Secret, Signature
from sluice.http.bodies import BodyBudget
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.heard import Heard
from tests.sessions.making import place
from tests.waiting import until

pytestmark = pytest.mark.anyio

SIGNATURE = Signature("workers", "blazz", Secret(b"my-secret-key"), 300.0)
LEASE = 1.5  # so long the machine may stall under the other tests


class Gateway:
    """The worker API on a real port, which can be told to hang, with what runs beside it."""

    def __init__(self, registry: Registry, changes: Changes) -> None:
        self.keys = Keys([Key(SIGNATURE)], {})
        self.wakeups = Wakeups(changes)
        app = Starlette(routes=worker_api.routes(registry, self.wakeups, BodyBudget(2**20), lambda: self.keys))
        self.answering = asyncio.Event()
        self.answering.set()
        self.url = ""

        async def held(scope: object, receive: object, send: object) -> None:
            await self.answering.wait()
            await app(scope, receive, send)  # type: ignore[arg-type]

        config = uvicorn.Config(held, port=0, log_config=None, lifespan="off", ws="none")
        self.server = uvicorn.Server(config)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Gateway]:
        task = asyncio.create_task(self.server.serve())
        await until(lambda: self.server.started)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        yield self
        self.answering.set()
        self.wakeups.close()
        self.server.should_exit = True
        await task


@dataclass
class Browser:
    """Remembers what it was told, and when."""

    running: dict[str, int] = field(default_factory=dict)
    stopped_at: dict[str, float] = field(default_factory=dict)
    slow_stop: asyncio.Event | None = None
    failures: int = 0
    started: int = 0
    stopping: int = 0
    peak_stopping: int = 0
    says: tuple[str, str | None, str | None] | None = None
    """None: connected, each with a phone of its own."""

    async def start(self, session: str, fence: int) -> None:
        assert session not in self.running
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no display")
        self.started += 1
        self.running[session] = fence

    async def stop(self, session: str) -> None:
        self.stopping += 1
        self.peak_stopping = max(self.peak_stopping, self.stopping)
        await (self.slow_stop.wait() if self.slow_stop else asyncio.sleep(0.01))
        self.stopping -= 1
        self.stopped_at[session] = time.monotonic()
        del self.running[session]

    def state(self, session: str) -> tuple[str, str | None, str | None]:
        return self.says or ("connected", f"628{session[1:]}", None)


@dataclass
class Member:
    browser: Browser
    membership: Membership
    stop: Stop
    task: asyncio.Task[None]

    async def ends(self) -> None:
        self.stop.request()
        await self.task


Join = Callable[..., Member]


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, LEASE)


@pytest.fixture
async def gateway(registry: Registry, store: Store) -> AsyncIterator[Gateway]:
    changes, stop = Changes(store), Stop()
    async with Gateway(registry, changes).serving() as gateway, asyncio.TaskGroup() as beside:
        beside.create_task(changes.run(stop))
        beside.create_task(Keeper(registry, changes).run(stop))
        yield gateway
        stop.request()


@pytest.fixture
async def join(gateway: Gateway) -> AsyncIterator[Join]:
    async with AsyncExitStack() as members:

        def join(name: str, capacity: int | Callable[[], int] = 10, url: str = "", **options: Any) -> Member:
            browser, stop = Browser(), Stop()
            membership = Membership(
                gateway.url,
                SIGNATURE,
                worker=name,
                url=url or f"http://{name}:3000",
                capacity=capacity,
                start=browser.start,
                stop=browser.stop,
                state=browser.state,
                **{"load": lambda: None, **options},
            )
            member = Member(browser, membership, stop, asyncio.create_task(membership.run(stop)))
            members.push_async_callback(member.ends)
            return member

        yield join
        gateway.answering.set()


def listed(registry: Registry, *names: str) -> Callable[[], Awaitable[object]]:
    async def are() -> bool:
        return [row.worker for row in await registry.workers() if row.beat_left] == list(names)

    return are


async def want(registry: Registry, count: int) -> None:
    await registry.want({f"s{i}": {} for i in range(count)})


async def test_a_worker_runs_exactly_what_it_was_given(registry: Registry, join: Join) -> None:
    a = join("a")
    await want(registry, 3)
    await until(lambda: len(a.browser.running) == 3)
    assert {row.session: row.fence for row in await registry.sessions()} == a.browser.running
    await registry.forget("s1")
    await until(lambda: set(a.browser.running) == {"s0", "s2"})
    assert a.membership.fence_of("s1") is None
    assert a.membership.fence_of("s2") == a.browser.running["s2"]


async def test_a_worker_that_measures_how_many_it_can_run_says_so_with_each_beat(
    registry: Registry, join: Join
) -> None:
    room, lost = 3, 0
    join("a", capacity=lambda: room, dropped=lambda: lost)

    async def known() -> tuple[int, int] | None:
        rows = await registry.workers()
        return (rows[0].capacity, rows[0].dropped) if rows else None

    async def is_known() -> bool:
        return await known() == (room, lost)

    await until(is_known)
    room, lost = 5, 2
    await until(is_known)


async def test_a_worker_that_takes_ids_says_so(registry: Registry, join: Join) -> None:
    await want(registry, 1)
    join("a", takes_ids=True)
    await until(lambda: listed(registry, "a")())

    async def takes_them() -> bool:
        found = await registry.owner_of("s0")
        return isinstance(found, Owner) and found.takes_ids

    await until(takes_them)


async def test_what_the_worker_says_of_its_sessions_is_known(registry: Registry, join: Join) -> None:
    join("a")
    await want(registry, 1)

    async def connected() -> bool:
        return [(row.state, row.phone) for row in await registry.sessions()] == [("connected", "6280")]

    await until(connected)


async def test_leases_are_kept_for_as_long_as_the_worker_beats(registry: Registry, join: Join) -> None:
    a = join("a")
    await want(registry, 2)
    await until(lambda: len(a.browser.running) == 2)
    before = dict(a.browser.running)
    await asyncio.sleep(LEASE * 2)
    assert a.browser.running == before
    assert not a.browser.stopped_at


async def test_a_worker_stops_everything_before_its_leases_end_when_the_gateway_hangs(
    registry: Registry, gateway: Gateway, join: Join
) -> None:
    a = join("a")
    await want(registry, 3)
    await until(lambda: len(a.browser.running) == 3)
    gateway.answering.clear()
    await until(lambda: len(a.browser.stopped_at) == 3, timeout=LEASE * 3)
    assert isinstance(await registry.owner_of("s0"), Owner), "the lease ended first"
    assert a.membership.fence_of("s0") is None


async def test_a_process_that_was_frozen_may_not_act_before_it_has_heard_from_the_gateway(
    registry: Registry, join: Join
) -> None:
    a = join("a")
    await want(registry, 1)
    await until(lambda: a.membership.fence_of("s0"))
    time.sleep(LEASE)
    assert a.membership.fence_of("s0") is None
    await until(lambda: a.membership.fence_of("s0"))


async def test_a_session_ended_just_before_the_worker_stops_is_not_adopted_by_another(
    registry: Registry, join: Join
) -> None:
    a = join("a")
    await want(registry, 1)
    await until(lambda: a.membership.fence_of("s0"))
    a.membership.end("s0", a.membership.fence_of("s0") or 0)
    await a.ends()
    assert await registry.owner_of("s0") == Unknown()


async def test_a_worker_comes_back_by_itself_when_the_gateway_answers_again(
    registry: Registry, gateway: Gateway, join: Join
) -> None:
    a = join("a")
    await want(registry, 2)
    await until(lambda: len(a.browser.running) == 2)
    gateway.answering.clear()

    async def all_lapsed() -> bool:
        return isinstance(await registry.owner_of("s0"), Unowned)

    await until(all_lapsed)
    assert not a.browser.running
    gateway.answering.set()
    await until(lambda: len(a.browser.running) == 2)


async def test_an_outage_is_logged_once(registry: Registry, gateway: Gateway, join: Join, heard: Heard) -> None:
    a = join("a")
    await until(listed(registry, "a"))
    gateway.answering.clear()
    await asyncio.sleep(LEASE * 2)
    gateway.answering.set()
    await until(lambda: "membership.answered_again" in heard.messages())
    assert heard.messages().count("membership.no_answer") == 1
    assert a.task.done() is False


async def test_two_workers_never_hold_one_session_while_workers_come_and_go(registry: Registry, join: Join) -> None:
    members = [join("a"), join("b")]
    await want(registry, 6)
    await until(lambda: sum(len(member.browser.running) for member in members) == 6)
    await members[0].ends()
    members.append(join("c"))

    def all_run_once() -> bool:
        running = [session for member in members for session in member.browser.running]
        assert len(running) == len(set(running))
        return len(running) == 6

    await until(all_run_once)


async def test_a_worker_that_stops_leaves_its_sessions_to_the_others_at_once(registry: Registry, join: Join) -> None:
    a = join("a")
    await want(registry, 4)
    await until(lambda: len(a.browser.running) == 4)
    await a.ends()
    assert not a.browser.running
    assert isinstance(await registry.owner_of("s0"), Unowned)
    assert await registry.workers() == []
    b = join("b")
    await until(lambda: len(b.browser.running) == 4)


async def test_a_worker_that_closes_slowly_keeps_its_leases_until_it_has_closed(registry: Registry, join: Join) -> None:
    a = join("a")
    await want(registry, 2)
    await until(lambda: len(a.browser.running) == 2)
    a.browser.slow_stop = asyncio.Event()
    a.stop.request()
    b = join("b")
    await asyncio.sleep(LEASE * 2)
    assert len(a.browser.running) == 2
    assert not b.browser.running
    a.browser.slow_stop.set()
    await until(lambda: len(b.browser.running) == 2)


async def test_what_a_worker_cannot_close_in_time_goes_to_others_only_when_its_lease_is_over(
    registry: Registry, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions.membership._DRAIN", 0.5)
    a = join("a")
    await want(registry, 1)
    await until(lambda: len(a.browser.running) == 1)
    a.browser.slow_stop = asyncio.Event()
    await a.ends()
    assert [row.worker for row in await registry.workers()] == ["a"]
    a.browser.slow_stop.set()
    await until(lambda: not a.browser.running)


async def test_a_session_that_a_person_ended_is_stopped_and_forgotten(registry: Registry, join: Join) -> None:
    a = join("a")
    await want(registry, 1)
    await until(lambda: a.membership.fence_of("s0"))
    a.membership.end("s0", a.membership.fence_of("s0") or 0)

    async def forgotten() -> bool:
        return await registry.owner_of("s0") == Unknown()

    await until(forgotten)
    await until(lambda: not a.browser.running)


async def test_a_start_that_fails_is_tried_again(registry: Registry, join: Join) -> None:
    a = join("a")
    a.browser.failures = 2
    await want(registry, 1)
    await until(lambda: a.membership.fence_of("s0"))


async def test_a_new_process_under_the_same_name_takes_over(registry: Registry, join: Join) -> None:
    old = join("a")
    await want(registry, 1)
    await until(lambda: old.membership.fence_of("s0"))
    was = old.membership.fence_of("s0")
    old.membership._client._http.base_url = "http://127.0.0.1:1"
    new = join("a")
    await until(lambda: new.membership.fence_of("s0"))
    assert was is not None
    assert (new.membership.fence_of("s0") or 0) > was
    with pytest.raises(UnknownWorker):
        await registry.beat("a", old.membership.instance, {}, {})


async def test_a_session_that_is_ended_before_a_beat_has_told_of_it_is_forgotten_too(
    registry: Registry, join: Join
) -> None:
    a = join("a")

    async def live() -> bool:
        return any(row.beat_left > 0 for row in await registry.workers())

    await until(live)
    placed = await place(registry, "s0", {})
    assert isinstance(placed, Owner)
    a.membership.end("s0", placed.fence)

    async def forgotten() -> bool:
        return await registry.owner_of("s0") == Unknown()

    await until(forgotten)


async def test_a_twin_is_refused_until_the_first_has_left(registry: Registry, join: Join, heard: Heard) -> None:
    """It was: 5 sessions started 70 times in 15 s, as both took turns."""
    first = join("a")
    await want(registry, 5)
    await until(lambda: len(first.browser.running) == 5)
    twin = join("a", url="http://elsewhere:3000")
    await asyncio.sleep(3 * LEASE)
    assert (first.browser.started, first.browser.stopped_at) == (5, {})
    assert (twin.browser.started, len(first.browser.running)) == (0, 5)
    assert heard.messages().count("membership.taken") == 1
    await first.ends()
    await until(lambda: len(twin.browser.running) == 5)
    assert "membership.answered_again" in heard.messages()


async def test_a_twin_takes_the_place_when_the_lease_of_the_first_has_ended(registry: Registry, join: Join) -> None:
    first = join("a")
    await want(registry, 1)
    await until(lambda: first.membership.fence_of("s0"))
    first.membership._client._http.base_url = "http://127.0.0.1:1"
    twin = join("a", url="http://elsewhere:3000")
    await until(lambda: twin.membership.fence_of("s0"), timeout=LEASE * 6)
    assert first.membership.fence_of("s0") is None


async def test_two_processes_at_one_address_put_each_other_out_ever_more_slowly(registry: Registry, join: Join) -> None:
    """Nobody can tell a restart from a twin there; so each that was put out waits, up to a lease."""
    members = [join("a", url="http://both:3000") for _ in range(2)]
    await want(registry, 5)
    await asyncio.sleep(6 * LEASE)
    assert 5 <= sum(member.browser.started for member in members) <= 40


async def test_a_session_that_is_given_is_started_at_once_and_not_with_the_next_beat(
    store: Store, join: Join, gateway: Gateway, registry: Registry
) -> None:
    registry.lease, registry._lease_ms = 30.0, 30_000
    a = join("a")
    await until(listed(registry, "a"))
    for name in ("s1", "s2"):
        begun = time.monotonic()
        await registry.want({name: {}})
        await until(lambda name=name: a.membership.fence_of(name))  # type: ignore[misc]
        assert time.monotonic() - begun < 5, "the next beat is due after ten seconds"
    begun = time.monotonic()
    await registry.forget("s1", closed=False)
    await until(lambda: set(a.browser.running) == {"s2"})
    assert time.monotonic() - begun < 5


async def test_a_gateway_that_knows_no_waiting_is_beaten_to_all_the_same(
    registry: Registry, gateway: Gateway, join: Join
) -> None:
    a = join("a")
    a.membership._client.post = _without_wait(a.membership._client.post)  # type: ignore[method-assign]
    await want(registry, 2)
    await until(lambda: len(a.browser.running) == 2)
    await asyncio.sleep(LEASE * 2)
    assert a.membership.fence_of("s0")


def _without_wait(post: Any) -> Any:
    async def posted(path: str, *rest: Any) -> Any:
        return await post(path.replace("/wait", "/nothing"), *rest)

    return posted


async def test_why_a_session_is_in_its_state_is_known_and_what_waits_for_its_start_is_starting(
    registry: Registry, join: Join
) -> None:
    registry.lease, registry._lease_ms = 6.0, 6000
    a = join("a", start_at_once=1)
    a.browser.says = ("failed", None, "no display")
    gate = asyncio.Event()
    a.membership._sessions._start = _gated(gate, a.browser.start)
    await want(registry, 2)

    async def states() -> dict[str, tuple[str, str | None]]:
        return {row.session: (row.state, row.reason or None) for row in await registry.sessions()}

    async def both_starting() -> bool:
        return {state for state, _ in (await states()).values()} == {"starting"}

    await until(both_starting)
    gate.set()

    async def both_failed() -> bool:
        return set((await states()).values()) == {("failed", "no display")}

    await until(both_failed)


def _gated(gate: asyncio.Event, start: Any) -> Any:
    async def gated(session: str, fence: int) -> None:
        await gate.wait()
        await start(session, fence)

    return gated


async def test_what_the_worker_says_of_its_machine_keeps_sessions_away(registry: Registry, join: Join) -> None:
    full = join("a", load=lambda: {"memory": 0.95, "cpu": 0.1})
    await until(listed(registry, "a"))
    await asyncio.sleep(LEASE)
    await want(registry, 2)
    free = join("b", load=lambda: {"memory": 0.5, "cpu": 0.1})
    await until(lambda: len(free.browser.running) == 2)
    assert not full.browser.running


async def test_a_worker_that_stops_hands_its_sessions_over_one_after_the_other(registry: Registry, join: Join) -> None:
    a = join("a")
    await want(registry, 6)
    await until(lambda: len(a.browser.running) == 6)
    b = join("b")
    await until(listed(registry, "a", "b"))
    gone_for: dict[str, float] = {}
    a.stop.request()

    def handed_over() -> bool:
        for session in set(a.browser.stopped_at) & set(b.browser.running) - set(gone_for):
            gone_for[session] = time.monotonic() - a.browser.stopped_at[session]
        return len(gone_for) == 6

    await until(handed_over, timeout=30)
    await a.task
    assert max(gone_for.values()) < 2 * LEASE, gone_for
    assert a.browser.peak_stopping == 2


async def a_place(registry: Registry, session: str) -> int:
    """The fence of a place that is held for it, at the only worker."""
    held = await registry.reserve(session, {})
    assert isinstance(held, Reserved)
    return held.fence


async def test_a_create_for_a_held_place_is_begun_and_goes_on_without_anybody_confirming_it(
    registry: Registry, join: Join
) -> None:
    a = join("a")
    await until(lambda: listed(registry, "a")())
    await until(lambda: a.membership.accept("first", 2**53 - 1))  # its lease is sure
    await until(lambda: a.browser.stopped_at)  # nobody has a place for that one
    fence = await a_place(registry, "s")
    assert a.membership.accept("s", fence)
    assert a.membership.accept("s", fence), "who asks twice"
    assert a.membership.fence_of("s") == fence

    async def owned() -> bool:
        found = await registry.owner_of("s")
        return isinstance(found, Owner) and found.fence == fence

    await until(owned)
    assert a.browser.running == {"s": fence}
    assert "s" not in a.browser.stopped_at, "an answer that knew nothing of it yet was about others"


async def test_a_create_does_not_wait_for_the_starts_of_others(registry: Registry, join: Join) -> None:
    a = join("a", start_at_once=0)  # nothing that is only given is ever started
    await want(registry, 1)

    async def accepted() -> bool:
        found = await registry.owner_of("s0")
        return isinstance(found, Owner) and a.membership.accept("s0", found.fence)

    await until(accepted)  # as soon as a beat has told of it
    await until(lambda: list(a.browser.running) == ["s0"])


async def test_a_create_that_was_sent_under_a_former_fence_is_not_begun(
    registry: Registry, gateway: Gateway, join: Join
) -> None:
    a = join("a")
    await until(lambda: listed(registry, "a")())
    late, places = await a_place(registry, "s"), []
    assert await registry.forget("s", closed=False)

    async def free() -> bool:
        found = await registry.reserve("s", {})
        if isinstance(found, Reserved):
            places.append(found.fence)
        return bool(places)

    await until(free)  # after two beats: it was told the fence, and has said so
    (fence,) = places
    assert not a.membership.accept("s", late)
    assert a.membership.accept("s", fence)
    assert not a.membership.accept("s", late), "it runs under another fence"

    gateway.answering.clear()
    await until(lambda: a.membership.fence_of("s") is None, timeout=LEASE * 3)
    assert not a.membership.accept("t", 2**53 - 1), "its lease is over"
