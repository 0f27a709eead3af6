"""Requests that wait for tokens: in order, no more than the limit allows, and never for ever."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import pytest

from gateway.limits import held
from gateway.limits.applicable import HOLD, OBSERVE, REFUSE, Bucket, Enforcement, Ticket
from gateway.limits.decide import Decision
from gateway.limits.held import HeldRequests
from gateway.limits.limiter import Limiter
from gateway.limits.take import levels_of
from gateway.policies import Limit
from gateway.problems import ClientGone, Refusal
from sluice.config import Rate
from sluice.http.bodies import BodyBudget
from sluice.http.server import AsgiExchange, head_of_scope
from sluice.store.client import Store
from tests.gateway.making import HOURLY, a_limit
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Caller:
    """A client that waits for its answer until it hangs up."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"a")], "http_version": "1.1"}
        self.exchange = AsgiExchange(scope, self._receive, self._send, head_of_scope(scope))

    async def _receive(self) -> dict[str, str]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: object) -> None:
        raise AssertionError("nothing is answered here")

    def hang_up(self) -> None:
        self._gone.set()


class Gateway:
    """What one gateway process holds."""

    def __init__(self, store: Store, bodies: int = 2**20) -> None:
        self.store = store
        self.limiter = Limiter(store)
        self.requests = HeldRequests(self.limiter, store, BodyBudget(bodies))

    def ask(self, *buckets: Bucket, caller: Caller | None = None, size: int = 0) -> asyncio.Task[Decision]:
        """A request that comes now."""
        exchange = (caller or Caller()).exchange
        return asyncio.create_task(self.requests.take(buckets, size, time.monotonic(), exchange))


@pytest.fixture
async def gateways(store_url: str) -> AsyncIterator[Callable[[], Gateway]]:
    async with AsyncExitStack() as stack:

        def start() -> Gateway:
            store = Store(store_url, timeout=5.0)
            stack.push_async_callback(store.close)
            made = Gateway(store)
            stack.push_async_callback(made.requests.close)
            return made

        yield start


@pytest.fixture
async def gateway(gateways: Callable[[], Gateway]) -> Gateway:
    return gateways()


def holding(
    name: str = "send",
    per_second: float = 5.0,
    *,
    burst: int = 1,
    cost: int = 1,
    hold: float = 25.0,
    subject: str = "s",
) -> Bucket:
    limit = replace(a_limit(name, rate=Rate(1, 1 / per_second), burst=burst, over="hold"), hold=hold)
    return a_bucket(limit, HOLD, cost=cost, subject=subject)


def a_bucket(limit: Limit, mode: Enforcement = REFUSE, *, cost: int = 1, subject: str = "s") -> Bucket:
    return Bucket(limit, f"sl:{{l}}:{limit.id}\0{subject}", mode, limit.rate.interval, limit.burst, cost)


async def verdicts(tasks: Sequence[asyncio.Task[Decision]]) -> list[str]:
    return [decision.verdict for decision in await asyncio.gather(*tasks)]


async def moments(tasks: Sequence[asyncio.Task[Decision]]) -> list[float]:
    """When each of them passed."""
    passed: dict[int, float] = {}
    for number, task in enumerate(tasks):
        task.add_done_callback(lambda _, number=number: passed.setdefault(number, time.monotonic()))  # type: ignore[misc]
    assert set(await verdicts(tasks)) == {"pass"}
    await asyncio.sleep(0)
    return [passed[number] for number in range(len(tasks))]


async def lines(store: Store) -> dict[bytes, int]:
    (keys,) = await store.commands(("KEYS", "sl:{l}:line:*"))
    return {key: (await store.commands(("HLEN", key)))[0] for key in keys}


async def test_a_request_waits_until_its_tokens_are_there(gateway: Gateway) -> None:
    await gateway.ask(holding())
    began = time.monotonic()
    assert (await gateway.ask(holding())).verdict == "pass"
    assert 0.15 < time.monotonic() - began < 3
    assert await lines(gateway.store) == {}


async def test_it_waits_for_as_many_tokens_as_it_costs(gateway: Gateway) -> None:
    await gateway.ask(holding(burst=4, cost=4, per_second=10))
    began = time.monotonic()
    assert (await gateway.ask(holding(burst=4, cost=3, per_second=10))).verdict == "pass"
    assert 0.25 < time.monotonic() - began < 3


async def test_who_came_first_goes_first(gateway: Gateway) -> None:
    began = time.monotonic()
    waiting = []
    for _ in range(6):
        waiting.append(gateway.ask(holding(per_second=10)))
        await asyncio.sleep(0.005)
    passed = await moments(waiting)
    assert passed == sorted(passed)
    assert passed[-1] - began >= 0.45


async def test_subjects_do_not_wait_for_each_other(gateway: Gateway) -> None:
    slow = holding(per_second=0.01)
    await gateway.ask(slow)
    blocked, caller = gateway.ask(slow, caller=(caller := Caller())), caller
    await until(lambda: gateway.requests._held == 1)
    assert (await gateway.ask(holding(per_second=0.01, subject="other"))).verdict == "pass"
    caller.hang_up()
    with pytest.raises(ClientGone):
        await blocked


async def test_several_gateways_together_let_no_more_pass_than_the_limit(gateways: Callable[[], Gateway]) -> None:
    rate, burst = 20.0, 3
    both, waiting, began = [gateways(), gateways()], [], time.monotonic()
    for number in range(24):
        waiting.append(both[number % 2].ask(holding(per_second=rate, burst=burst)))
        await asyncio.sleep(0.003)
    passed = sorted(await moments(waiting))
    assert_no_more_than(passed, burst, rate, began)
    assert passed[-1] - began < 10, "the tokens are used"


def assert_no_more_than(passed: Sequence[float], burst: int, rate: float, began: float) -> None:
    """Each moment is seen after the script has run, by no bound on a busy machine: later, never earlier."""
    for number, moment in enumerate(passed, 1):
        assert number <= burst + rate * (moment - began) + 0.01


@pytest.mark.parametrize("seed", [1, 2])
async def test_whoever_hangs_up_no_more_pass_and_the_others_use_the_tokens(
    gateways: Callable[[], Gateway], seed: int
) -> None:
    rate, burst, chance = 20.0, 2, random.Random(seed)
    both = [gateways(), gateways()]
    passed: list[float] = []

    async def ask(gateway: Gateway, patience: float) -> None:
        caller = Caller()
        asyncio.get_running_loop().call_later(patience, caller.hang_up)
        with suppress(ClientGone):
            if (await gateway.ask(holding(per_second=rate, burst=burst), caller=caller)).verdict == "pass":
                passed.append(time.monotonic())

    asking, began = [], time.monotonic()
    for _ in range(50):
        asking.append(asyncio.create_task(ask(chance.choice(both), chance.choice([0.05, 0.3, 30.0]))))
        await asyncio.sleep(chance.uniform(0, 0.02))
    await asyncio.gather(*asking)
    passed.sort()
    assert_no_more_than(passed, burst, rate, began)
    assert passed[-1] - began < len(passed) / rate + 10
    await until(lambda: no_lines(both[0].store))


async def test_several_gateways_keep_the_order_between_them(gateways: Callable[[], Gateway]) -> None:
    one, other = gateways(), gateways()
    await one.ask(holding(per_second=4))
    first = one.ask(holding(per_second=4))
    await until(lambda: lines(one.store))
    second = other.ask(holding(per_second=4))
    await asyncio.sleep(0.05)
    third = one.ask(holding(per_second=4))
    passed = await moments([first, second, third])
    assert passed == sorted(passed)


async def test_who_comes_when_a_token_is_there_does_not_overtake_who_waits_for_it(
    gateways: Callable[[], Gateway],
) -> None:
    one, other = gateways(), gateways()
    dear = holding(burst=4, cost=4, per_second=10)
    await one.ask(dear)
    first = one.ask(dear)
    await until(lambda: lines(one.store))
    await asyncio.sleep(0.2)  # two tokens are there
    late = other.ask(holding(burst=4, per_second=10))
    passed = await moments([first, late])
    assert passed == sorted(passed)


async def test_a_caller_that_hangs_up_leaves_the_line_and_takes_no_tokens(gateway: Gateway) -> None:
    bucket = holding(burst=5, cost=5, per_second=2)
    await gateway.ask(bucket)
    callers = [Caller(), Caller()]
    waiting = [gateway.ask(bucket, caller=caller) for caller in callers]
    await until(lambda: lines(gateway.store))
    level = (await levels_of(gateway.store, [bucket]))[0]
    for caller in callers:
        caller.hang_up()
    for task in waiting:
        with pytest.raises(ClientGone):
            await task
    await until(lambda: no_lines(gateway.store))
    assert (await levels_of(gateway.store, [bucket]))[0] >= level


async def no_lines(store: Store) -> bool:
    return not await lines(store)


async def test_who_is_behind_a_caller_that_hangs_up_moves_up(gateway: Gateway) -> None:
    bucket = holding(per_second=0.5)
    await gateway.ask(bucket)
    began, caller = time.monotonic(), Caller()
    leaving, staying = gateway.ask(bucket, caller=caller), gateway.ask(bucket)
    await until(lambda: lines(gateway.store))
    caller.hang_up()
    with pytest.raises(ClientGone):
        await leaving
    assert (await staying).verdict == "pass"
    assert time.monotonic() - began < 3.8, "it did not wait for the tokens of who has left"


async def test_its_time_ends(gateway: Gateway) -> None:
    bucket = holding(per_second=0.001, hold=0.3)
    await gateway.ask(bucket)
    began = time.monotonic()
    waiting = [gateway.ask(bucket) for _ in range(3)]
    decisions = await asyncio.gather(*waiting)
    assert {decision.verdict for decision in decisions} == {"hold"}
    assert 0.25 < time.monotonic() - began < 3
    assert all(900 < decision.retry_after <= 3000 for decision in decisions)
    assert decisions[0].violated == ("send",)
    await until(lambda: no_lines(gateway.store))


async def test_a_stopping_gateway_lets_nobody_wait(gateway: Gateway) -> None:
    bucket = holding(per_second=0.001)
    await gateway.ask(bucket)
    waiting = [gateway.ask(bucket) for _ in range(2)]
    await until(lambda: gateway.requests._held == 2)
    gateway.requests.stop()
    for task in (*waiting, gateway.ask(bucket)):
        with pytest.raises(Refusal) as refused:
            await task
        assert (refused.value.status, refused.value.detail) == (503, "the gateway stops; send it again")
        assert refused.value.retry_after == b"1"
    await gateway.requests.close()
    assert await lines(gateway.store) == {}


async def test_the_number_of_those_that_wait_is_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST", 2)
    bucket = holding(per_second=0.001, hold=2.0)
    await gateway.ask(bucket)
    waiting = [gateway.ask(bucket) for _ in range(2)]
    await until(lambda: gateway.requests._held == 2)
    began = time.monotonic()
    assert (await gateway.ask(bucket)).verdict == "hold"
    assert (await gateway.ask(holding(per_second=0.001, subject="t"))).verdict == "pass", "nobody else is refused"
    assert time.monotonic() - began < 1.8
    assert await verdicts(waiting) == ["hold", "hold"]


async def test_the_bytes_of_those_that_wait_are_bounded(store: Store) -> None:
    gateway = Gateway(store, bodies=400)
    bucket = holding(per_second=0.001, hold=0.5)
    await gateway.ask(bucket, size=400)
    first = gateway.ask(bucket, size=60)
    await until(lambda: gateway.requests._held == 1)
    assert (await gateway.ask(bucket, size=60)).verdict == "hold"
    assert not first.done()
    await first
    await gateway.requests.close()


async def test_the_place_of_a_gateway_that_is_killed_lapses(gateways: Callable[[], Gateway]) -> None:
    killed, gateway = gateways(), gateways()
    bucket = holding(per_second=5)
    await killed.ask(bucket)
    in_line = replace(bucket, ticket=Ticket("of the killed one", time.monotonic()))
    assert (await killed.limiter.take([in_line])).verdict == "hold"
    assert await lines(gateway.store)
    began = time.monotonic()
    assert (await gateway.ask(bucket)).verdict == "pass"
    assert time.monotonic() - began < 4
    await until(lambda: no_lines(gateway.store))


async def test_what_another_limit_rejects_is_rejected_at_once(gateway: Gateway) -> None:
    bucket, strict = holding(), a_bucket(a_limit("address", rate=HOURLY))
    await gateway.ask(bucket, strict)
    decision = await gateway.ask(bucket, strict)
    assert (decision.verdict, decision.limit) == ("reject", "address")
    assert await lines(gateway.store) == {}


async def test_the_longest_of_several_that_hold_is_waited_for(gateway: Gateway) -> None:
    short, long = holding("short", 50), holding("long", 4)
    await gateway.ask(short, long)
    began = time.monotonic()
    assert (await gateway.ask(short, long)).verdict == "pass"
    assert 0.2 < time.monotonic() - began < 3


async def test_limits_that_only_observe_count_a_held_request_once(gateway: Gateway) -> None:
    bucket, trial = holding(), a_bucket(a_limit("trial", rate=HOURLY, burst=9), OBSERVE)
    for _ in range(3):
        decision = await gateway.ask(trial, bucket)
        assert (decision.verdict, len(decision.levels)) == ("pass", 2)
    assert round((await levels_of(gateway.store, [trial]))[0]) == 6


async def test_a_held_request_asks_twice_and_those_behind_it_not_at_all(gateway: Gateway) -> None:
    bucket = holding(per_second=4)
    await gateway.ask(bucket)
    before = gateway.store.trips
    assert (await gateway.ask(bucket)).verdict == "pass"
    assert gateway.store.trips - before == 2
    first = gateway.ask(bucket)
    await until(lambda: gateway.requests._held == 1)
    before = gateway.store.trips
    caller = Caller()
    behind = gateway.ask(bucket, caller=caller)
    await asyncio.sleep(0.05)
    assert gateway.store.trips == before
    caller.hang_up()
    await asyncio.gather(first, behind, return_exceptions=True)


async def test_while_the_store_is_away_it_waits_for_this_process_s_part() -> None:
    store = Store("redis://127.0.0.1:1", timeout=0.2)
    gateway = Gateway(store)
    bucket = holding(per_second=5)
    began = time.monotonic()
    assert await verdicts([gateway.ask(bucket) for _ in range(3)]) == ["pass"] * 3
    assert time.monotonic() - began > 0.35
    await gateway.requests.close()
    await store.close()
