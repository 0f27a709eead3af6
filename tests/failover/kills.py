"""Workers that are killed at random moments under numbered traffic, and what became of each number."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx2

from tests.failover.deployment import WITHIN, Deployment, deployment
from tests.waiting import until

_PAUSE = (0.0, 4.0)
"""Seconds that a worker has before it is killed."""
WRITTEN = 12.0
"""Seconds after which a browser has written a login: who is killed before that asks for a code again."""
_KILL_TAKES = 12.0
"""Seconds, about."""
_SENDER = "4915112345678@c.us"


@dataclass
class Outcome:
    kills: int = 0
    adopted: int = 0
    """Sessions that were connected elsewhere after a kill, without a code."""
    took: list[float] = field(default_factory=list)
    """Seconds from a kill to that."""
    sends: int = 0
    incoming: int = 0
    repeated: int = 0
    """Sends that went out once more under the same id, which WhatsApp takes for one message."""
    wrong: list[str] = field(default_factory=list)
    """What must not be."""


async def kills(
    folder: Path,
    free_port: Callable[[], int],
    *,
    kills: int,
    messages: int,
    sessions: int = 2,
    machines: bool = False,
    seed: int = 1,
) -> Outcome:
    """`messages`: so many are sent, and so many come in, spread over the sessions. `machines`: each worker has its own
    disk, so logins move by the vault."""
    async with deployment(folder, free_port, machines=machines) as made:
        for number in range(sessions):
            await made.paired(f"s{number}", f"62811000{number}")
        await (_saved(made) if machines else asyncio.sleep(WRITTEN))
        return await kills_of(made, list(made.phones), kills=kills, messages=messages, seed=seed)


async def kills_of(made: Deployment, names: Sequence[str], *, kills: int, messages: int, seed: int = 1) -> Outcome:
    """Of the two workers that run, one of which has these sessions; their logins are on a disk of both, or in the
    vault."""
    outcome, each = Outcome(), messages // len(names)
    codes = {session: len(made.heard(session, "qr_code_generated")) for session in names}
    every = kills * _KILL_TAKES / each
    async with asyncio.TaskGroup() as group:
        for session in names:
            group.create_task(_send_all(made, session, each, every, outcome))
            group.create_task(_receive_all(made, session, each, every, outcome))
        group.create_task(_kill_all(made, names, kills, random.Random(seed), outcome))
    await _settled(made, names, each)
    _judge(made, names, each, codes, outcome)
    return outcome


async def _saved(made: Deployment) -> None:
    """Each login is in the vault: its worker was stopped properly."""
    for name in made.workers:
        began = time.monotonic()
        its = [session for session in made.phones if (await made.owner(session))[0] == name]
        await made.workers[name].terminate()
        (other,) = made.workers.keys() - {name}
        for session in its:
            await made.runs(session, other, since=began)
        await made.start_worker(name)


async def _send_all(made: Deployment, session: str, count: int, every: float, outcome: Outcome) -> None:
    for number in range(count):
        body = f"send {session} {number}"
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                if (await made.send(session, "4915112345678", body, **{"Idempotency-Key": body})).is_success:
                    break
            except httpx2.HTTPError:
                pass
            assert time.monotonic() < deadline, f"{body} was not taken"
            await asyncio.sleep(0.3)
        outcome.sends += 1
        await asyncio.sleep(every * random.uniform(0.2, 1.0))


async def _receive_all(made: Deployment, session: str, count: int, every: float, outcome: Outcome) -> None:
    for number in range(count):
        await made.whatsapp.incoming(made.phones[session], _SENDER, f"incoming {session} {number}")
        outcome.incoming += 1
        await asyncio.sleep(every * random.uniform(0.2, 1.0))


async def _kill_all(
    made: Deployment, names: Sequence[str], count: int, chance: random.Random, outcome: Outcome
) -> None:
    while outcome.kills < count:
        await asyncio.sleep(chance.uniform(*_PAUSE))
        owners = await _owners(made, names)
        victim = chance.choice(sorted({owner for owner, _, _ in owners.values() if owner}))
        its = {session: fence for session, (owner, fence, _) in owners.items() if owner == victim}
        await made.workers[victim].kill()
        killed = time.monotonic()
        outcome.kills += 1
        (other,) = (name for name, worker in made.workers.items() if worker.alive)
        for session, fence in its.items():
            newer = await made.runs(session, other, since=killed)
            if fence is not None and newer <= fence:
                outcome.wrong.append(f"{session}: fence {newer} after {fence}")
            outcome.adopted += 1
            began = made.whatsapp.connected_since(made.phones[session])
            outcome.took.append((began or time.monotonic()) - killed)
        print(f"kill {outcome.kills}: {len(its)} of {victim} are connected at {other}", flush=True)
        await made.start_worker(victim)


async def _owners(made: Deployment, names: Sequence[str]) -> dict[str, tuple[str | None, int | None, str]]:
    """As `Deployment.owner`, once any has one: on a busy machine a lease may end by itself."""
    found: dict[str, tuple[str | None, int | None, str]] = {}

    async def any_has() -> bool:
        for session in names:
            found[session] = await made.owner(session)
        return any(worker for worker, _, _ in found.values())

    await until(any_has, timeout=WITHIN, what="any session to have a worker")
    return found


async def _settled(made: Deployment, names: Sequence[str], each: int) -> None:
    def bodies(session: str) -> int:
        return len({one.data["message"]["body"] for one in made.heard(session, "message_received")})

    def sent(session: str) -> int:
        return len({one.body for one in made.whatsapp.sent if one.phone == made.phones[session]})

    try:
        await until(lambda: all(bodies(s) >= each and sent(s) >= each for s in names), timeout=60.0)
    except AssertionError:
        return  # the judge says what is missing


def _judge(made: Deployment, names: Sequence[str], each: int, codes: dict[str, int], outcome: Outcome) -> None:
    wrong = outcome.wrong
    for session in names:
        if len(made.heard(session, "qr_code_generated")) > codes[session]:
            wrong.append(f"{session}: it asked for a code once more")
        sent = [one for one in made.whatsapp.sent if one.phone == made.phones[session]]
        first = dict.fromkeys(sent_as.id for sent_as in sent)
        outcome.repeated += len(sent) - len(first)
        body_of = {one.id: one.body for one in sent}
        wrong += _compare(f"{session}: send", [_number(body_of[one]) for one in first], each)
        came = made.heard(session, "message_received")
        wrong += _compare(f"{session}: incoming", [_number(one.data["message"]["body"]) for one in came], each)
    for one, two in made.whatsapp.overlaps():
        wrong.append(f"{one.phone}: two browsers at a time for {one.ended - two.began:.3f} s")


def _number(body: str) -> int:
    return int(body.rpartition(" ")[2])


def _compare(what: str, found: Sequence[int], each: int) -> Iterable[str]:
    lost = sorted(set(range(each)) - set(found))
    doubled = sorted(number for number, times in Counter(found).items() if times > 1)
    if lost:
        yield f"{what}: lost {lost}"
    if doubled:
        yield f"{what}: doubled {doubled}"
    late = [after for before, after in pairwise(dict.fromkeys(found)) if after < before]
    if late:
        yield f"{what}: out of order {late}"
