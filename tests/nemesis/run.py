"""Faults at random under load, and what the history says of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.nemesis import browsers as judging, history
from tests.nemesis.checker import Verdict, check
from tests.nemesis.faults import TO_THE_REST, TO_WORKERS, Fault
from tests.nemesis.fleet import KEY, LEASE, Fleet, Kind, fleet
from tests.nemesis.load import Clients, requesting
from tests.waiting import until

LONGEST_GAP = LEASE + 2.0
_PAUSE = (0.3, 1.2)  # seconds between two faults
_SETTLED = LEASE + 6.0
_DRAINED_WITHIN = 120.0
_OPENED_WITHIN = 180.0


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    faults: Counter[str]
    seconds: float


async def nemesis(
    folder: Path,
    free_port: Callable[[], int],
    *,
    faults: int,
    seed: int,
    longest_gap: float = LONGEST_GAP,
    own: int = 30,
    existing: int = 30,
    browsers: int = 0,
) -> Outcome:
    """`own` and `existing`: how many sessions of each kind. `browsers`: workers of ours with real ones besides."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    async with fleet(folder, free_port, accounts=existing, kind=Kind(browsers=browsers)) as made:
        sessions = await created(made, own)
        began = time.monotonic()
        async with judging.used(made, sessions):
            async with requesting(made, sessions) as clients:
                await asyncio.sleep(2.0)
                await _opened(made, browsers)
                lanes = (TO_WORKERS, TO_THE_REST)
                for_each = [faults // 3, faults - faults // 3]  # those of workers take longer
                async with asyncio.TaskGroup() as group:
                    for lane, count in zip(lanes, for_each, strict=True):
                        group.create_task(_faults(lane, count, made, clients, random.Random(chance.random()), done))
                await asyncio.sleep(_SETTLED)
            await quiet(made)
        noted_twice(made)
        seconds = time.monotonic() - began
    entries = history.read(folder / "history")
    return Outcome(check(entries, longest_gap=longest_gap, own=sessions), done, seconds)


async def _opened(made: Fleet, count: int) -> None:
    """So many of the sessions that run in browsers are connected."""

    def connected() -> bool:
        there = made.whatsapp.connections if made.whatsapp is not None else []
        return sum(one.ended == float("inf") for one in there) >= count

    await until(connected, timeout=_OPENED_WITHIN, what=f"{count} browsers to be connected")


async def _faults(
    kinds: Sequence[Fault], count: int, made: Fleet, clients: Clients, chance: random.Random, done: Counter[str]
) -> None:
    for number in range(count):
        # Each kind once before any comes again.
        kind = kinds[number % len(kinds)] if number < len(kinds) else chance.choice(kinds)
        began = time.monotonic()
        to = await kind(made, clients, chance)
        made.history.note("fault", at=began, fault=kind.__name__, to=to, until=time.monotonic())
        done[kind.__name__] += 1
        await asyncio.sleep(chance.uniform(*_PAUSE))


def noted_twice(made: Fleet) -> None:
    """What the judge of the existing workers' logins has seen."""
    for twice in made.phones.ran_twice():
        workers = [twice.older, twice.newer]
        made.history.note("double", at=twice.at, session=twice.session, workers=workers)


async def created(made: Fleet, count: int) -> list[str]:
    """By requests, as Laravel creates them: so many sessions of our own workers. Those that existing workers get, as
    they are less loaded, are deleted in the end."""
    found: dict[bool, list[str]] = {True: [], False: []}
    async with httpx2.AsyncClient(base_url=made.gateways[0], trust_env=False, timeout=30) as client:
        while len(found[True]) < count:
            number = len(found[True]) + len(found[False])
            session = f"o-{number}"
            fields = {"session_id": session, "workspace_id": number, "account_id": 1, "api_key": KEY}
            answer = await client.post("/api/sessions", json=fields)
            assert answer.status_code == 200, answer.text
            found[answer.headers.get("x-demo-worker") in made.own].append(session)
        for session in found[False]:
            answer = await client.request("DELETE", f"/api/sessions/{session}", json={"api_key": KEY})
            assert answer.status_code == 200, answer.text
    return found[True]


async def quiet(made: Fleet) -> None:
    """Our own workers act no more, and everything that was accepted is delivered."""
    await asyncio.gather(*(own.terminate() for own in made.own.values()))

    async def nothing_waits() -> bool:
        endpoint = (await made.status())["endpoints"]["laravel"]
        return bool(endpoint["waiting"] == 0 and endpoint["leased"] == 0)

    await until(nothing_waits, timeout=_DRAINED_WITHIN, what="everything to be delivered")
