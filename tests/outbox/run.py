"""Sends of many sessions at a pace, while workers, a gateway and the store are killed and started again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

from tests.e2e.deployment import SECRETS
from tests.nemesis import history
from tests.nemesis.fleet import EXISTING, KEY, OWN, Fleet, Kind, fleet
from tests.nemesis.run import created
from tests.outbox.callers import Callers
from tests.outbox.checker import Verdict, check
from tests.waiting import until

INTERVAL, BURST = 2.0, 5
"""Seconds, and tokens: 30 in a minute."""
_HOLD = 0.1
"""Seconds, so that most callers are told our id, and the sends of a session queue up."""
SLACK = 0.02
"""Seconds by which a message may be early: times are in milliseconds somewhere, and two clocks are compared."""
_ASIDE = 5.0
_PAGE = 1000


Fault = Callable[[Fleet, random.Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    faults: Counter[str]
    seconds: float


async def outbox(
    folder: Path,
    free_port: Callable[[], int],
    *,
    sends: int,
    sessions: int,
    seed: int,
    scale: float,
    slack: float = SLACK,
    faults: Sequence[Fault] | None = None,
    drained_within: float = 240.0,
) -> Outcome:
    """`scale`: by how much each bucket is faster than 30 in a minute; `slack` as `check` has it; `faults`: all
    of them, if not said."""
    chance, interval = random.Random(seed), INTERVAL / scale
    own, existing = sessions - sessions // 2, sessions // 2
    kind = Kind(
        gateways=2,
        own=("--sends",),
        existing=("--receipts", "--secret", SECRETS["WHATSAPP_HMAC_SECRET"]),
        edit=lambda policies: _with_outbox(policies, interval),
        fsync="always",
    )
    done: Counter[str] = Counter()
    async with fleet(folder, free_port, accounts=existing, kind=kind) as made:
        names = [*await created(made, own), *made.accounts]
        await _all_connected(made, names)
        began = time.monotonic()
        callers = Callers(made.gateways, made.history, chance)
        async with asyncio.TaskGroup() as group:
            group.create_task(callers.run(names, sends // sessions))
            await _faults(faults or FAULTS, made, callers, sends, chance, done)
        await _drained(made, drained_within)
        await _note_unknown(made)
        for sent in made.phones.sent:
            about = {"session": sent.session, "text": sent.message, "id": sent.id, "worker": sent.worker}
            made.history.note("sent", at=sent.at, **about)
        seconds = time.monotonic() - began
    entries = history.read(folder / "history")
    return Outcome(check(entries, interval=interval, burst=BURST, slack=slack), done, seconds)


def _with_outbox(policies: dict[str, Any], interval: float) -> None:
    policies["store"]["promise"] = "always"
    rate = f"{round(60 / interval)}/minute"
    for limit in policies["limits"]:
        if limit["id"] == "send":
            limit.pop("mode", None)
            limit |= {"rate": rate, "burst": BURST, "over": "queue", "hold": f"{_HOLD * 1000:.0f}ms"}
    policies["limits"] = [limit for limit in policies["limits"] if limit["id"] != "trial"]


async def _all_connected(made: Fleet, sessions: Sequence[str]) -> None:
    async def all_are() -> bool:
        async with httpx2.AsyncClient(base_url=made.gateways[0], trust_env=False, timeout=10) as http:
            rows = (await http.get("/api/sessions", params={"api_key": KEY})).json()["sessions"]
        connected = {row["session_id"] for row in rows if row["status"] == "connected"}
        return connected >= set(sessions)

    await until(all_are, timeout=90, what="all sessions to be connected")


# --- what is done to them


async def own_worker_is_killed(made: Fleet, chance: random.Random) -> None:
    name = chance.choice(OWN)
    await made.own[name].kill()
    await asyncio.sleep(chance.uniform(0.0, _ASIDE))
    await made.own[name].start()


async def existing_worker_is_killed(made: Fleet, chance: random.Random) -> None:
    name = chance.choice(EXISTING)
    await made.existing[name].kill()
    await asyncio.sleep(chance.uniform(0.0, _ASIDE))
    await made.existing[name].start()
    await made.restored(name)


async def own_worker_is_stopped(made: Fleet, chance: random.Random) -> None:
    """And hands its sessions over."""
    name = chance.choice(OWN)
    await made.own[name].terminate()
    await made.own[name].start()


async def gateway_is_killed(made: Fleet, chance: random.Random) -> None:
    number = chance.randrange(len(made.gateways))
    await made.gateway_processes[number].kill()
    await asyncio.sleep(chance.uniform(0.0, 1.0))
    await made.gateway_processes[number].start()
    await made.gateway_answers(number)


async def store_is_killed(made: Fleet, _: random.Random) -> None:
    made.store.kill()
    await asyncio.to_thread(made.store.start)


FAULTS: Sequence[Fault] = (
    own_worker_is_killed,
    existing_worker_is_killed,
    gateway_is_killed,
    store_is_killed,
    own_worker_is_stopped,
    existing_worker_is_killed,
    own_worker_is_killed,
)
"""Spread over the run, in an order of the seed's."""


async def _faults(
    faults: Sequence[Fault], made: Fleet, callers: Callers, sends: int, chance: random.Random, done: Counter[str]
) -> None:
    order = list(faults)
    chance.shuffle(order)
    for number, fault in enumerate(order):
        share = (number + chance.uniform(0.2, 0.8)) / (len(order) + 1)
        await until(lambda due=share * sends: callers.answered >= due, timeout=600, what="callers to be answered")
        began = time.monotonic()
        await fault(made, chance)
        made.history.note("fault", at=began, fault=fault.__name__, until=time.monotonic())
        done[fault.__name__] += 1


# --- what has become of it


async def _drained(made: Fleet, within: float) -> None:
    async def nothing_waits() -> bool:
        endpoints = (await made.status())["endpoints"]
        return all(endpoint["waiting"] == endpoint["leased"] == 0 for endpoint in endpoints.values())

    def stand() -> str:
        return "\n".join(process.said()[-2000:] for process in made.gateway_processes)

    await until(nothing_waits, timeout=within, what=lambda: f"everything to be sent; the gateways said:\n{stand()}")


async def _note_unknown(made: Fleet) -> None:
    """The dead letters of the outbox, as a person finds them."""
    headers = {"Authorization": f"Bearer {SECRETS['SLUICE_CONSOLE_TOKEN']}"}
    base = f"{made.gateways[0]}/_sluice/api"
    async with httpx2.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=30) as http:
        after: str | None = None
        while True:
            asked: dict[str, Any] = {"endpoint": "outbox", "limit": _PAGE} | ({"after": after} if after else {})
            answer = await http.get("/dead", params=asked)
            if answer.status_code == 404:
                return  # there is no outbox
            page = answer.json()
            for letter in page["letters"]:
                shown = (await http.get(f"/dead/outbox/{letter['id']}")).json()
                made.history.note("unknown", text=orjson.loads(shown["body"])["message"], why=letter["reason"])
            after = page.get("next")
            if not after:
                return
