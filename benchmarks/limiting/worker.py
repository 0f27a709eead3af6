"""One process of a benchmark: a task comes as JSON on standard input, the result goes as JSON to standard output."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field

import limits
import uvloop
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter

from gateway.limits.applicable import Limits
from gateway.limits.limiter import Limiter
from limiting import ours
from sluice.store.client import Store

_TIMEOUT = 30.0  # of a call to the store; a busy machine must not look like a store that is away
_SUBJECTS = 1_000
_NEVER_REACHED = "1000000/second"
_NEVER_REACHED_BURST = 1_000_000


@dataclass(frozen=True, slots=True)
class Task:
    what: str
    """`sluice` or `limits` (how fast), `accuracy`, or `fill`."""
    url: str
    seconds: float = 0.0
    buckets: int = 1
    in_flight: int = 32
    rate: str = _NEVER_REACHED
    burst: int = _NEVER_REACHED_BURST
    subjects: int = _SUBJECTS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    decisions: int
    seconds: float
    cpu: float
    """Seconds of user and system time of this process."""
    seen: dict[str, list[float]] = field(default_factory=dict)
    """`accuracy`: for each decision the subject, when it was asked for and answered, and whether it passed."""


Decide = Callable[[int], Awaitable[bool]]
"""Of the subject with this number; True: it passes."""


async def main(task: Task) -> Result:
    if task.what == "limits":
        return await _as_fast_as_it_can(task, _theirs(task))
    store = Store(task.url, timeout=_TIMEOUT)
    try:
        with ours.limits(task.rate, task.burst, task.buckets) as made:
            limiter = Limiter(store)
            if task.what == "fill":
                return await _fill(task, limiter, made)
            every = [ours.buckets(made, number) for number in range(task.subjects)]

            async def decide(number: int) -> bool:
                return (await limiter.take(every[number])).verdict == "pass"

            return await (_noted if task.what == "accuracy" else _as_fast_as_it_can)(task, decide)
    finally:
        await store.close()


def _theirs(task: Task) -> Decide:
    """As many hits, one after the other, the next only when the one before passed: there is no call for several."""
    storage = RedisStorage("async+redis+" + task.url, implementation="redispy")
    strategy = FixedWindowRateLimiter(storage)
    item = limits.parse(task.rate)
    names = [[(f"limit-{n}", ours.session(number)) for n in range(task.buckets)] for number in range(task.subjects)]

    async def decide(number: int) -> bool:
        for name in names[number]:
            if not await strategy.hit(item, *name):
                return False
        return True

    return decide


async def _as_fast_as_it_can(task: Task, decide: Decide) -> Result:
    decisions = refused = 0
    until = time.perf_counter() + task.seconds

    async def one(number: int) -> None:
        nonlocal decisions, refused
        while time.perf_counter() < until:
            refused += not await decide(number)
            decisions += 1
            number = (number + task.in_flight) % task.subjects

    await asyncio.gather(*(decide(number) for number in range(task.in_flight)))  # scripts are loaded, connections open
    began, cpu = time.perf_counter(), _cpu()
    await asyncio.gather(*(one(number) for number in range(task.in_flight)))
    if refused:
        raise AssertionError(f"{refused} decisions were refusals: the store is away, or the limit was reached")
    return Result(decisions, time.perf_counter() - began, _cpu() - cpu)


async def _noted(task: Task, decide: Decide) -> Result:
    """Half of all requests are for subject 0, which is never left alone; the others come and go."""
    seen = {name: array("d") for name in ("subject", "asked", "answered", "passed")}
    until = time.perf_counter() + task.seconds

    async def one(chance: random.Random) -> None:
        while time.perf_counter() < until:
            number = 0 if chance.random() < 0.5 else chance.randrange(1, task.subjects)
            asked = time.monotonic()
            passed = await decide(number)
            for name, value in (
                ("subject", number),
                ("asked", asked),
                ("answered", time.monotonic()),
                ("passed", passed),
            ):
                seen[name].append(value)
            await asyncio.sleep(chance.random() * 0.02)

    began, cpu = time.perf_counter(), _cpu()
    await asyncio.gather(*(one(random.Random(f"{task.seed}:{n}")) for n in range(task.in_flight)))
    told = {name: list(values) for name, values in seen.items()}
    return Result(len(seen["subject"]), time.perf_counter() - began, _cpu() - cpu, told)


async def _fill(task: Task, limiter: Limiter, made: Limits) -> Result:
    """One request of each of many sessions."""
    numbers = iter(range(task.subjects))

    async def one() -> None:
        for number in numbers:
            decision = await limiter.take(ours.buckets(made, number))
            assert decision.verdict == "pass", decision

    began, cpu = time.perf_counter(), _cpu()
    await asyncio.gather(*(one() for _ in range(task.in_flight)))
    return Result(task.subjects, time.perf_counter() - began, _cpu() - cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    wish = Task(**json.load(sys.stdin))
    json.dump(asdict(uvloop.run(main(wish))), sys.stdout)
