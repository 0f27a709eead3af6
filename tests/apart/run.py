"""What test_hosts.py runs within namespaces: `cut-off` or `upgrade`, and a folder; prints what was seen as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx2
import orjson

from tests.apart.hosts import RELAYS, WORKERS, Hosts, hosts
from tests.waiting import until

SESSIONS = tuple(f"shop-{number}" for number in range(8))
_PAUSE = 0.1  # seconds between two events of a session
_AGAIN = 0.3  # seconds until an event that nobody took is sent again
_BALANCER_NOTICES = 1.5  # seconds
_EVENTS = 120.0  # seconds in which all that was accepted has to arrive
Sent = tuple[str, int]


@dataclass(slots=True)
class Seen:
    emitted: int = 0
    lost: list[Sent] = field(default_factory=list)
    out_of_order: list[Sent] = field(default_factory=list)
    failed_requests: dict[str, int] = field(default_factory=dict)
    """Of the questions for a session's status, by what came instead of an answer."""
    requests: int = 0
    run_twice: list[str] = field(default_factory=list)
    """Sessions that a worker still ran when another one had them."""
    owners: dict[str, dict[str, str]] = field(default_factory=dict)
    """At each step, who ran each session."""
    took: dict[str, float] = field(default_factory=dict)
    """Seconds of each step."""


class Traffic:
    """Numbered events of each session, in order, each until somebody takes it; and questions for its status."""

    def __init__(self, deployed: Hosts, seen: Seen) -> None:
        self._hosts = deployed
        self._seen = seen
        self._emitted: set[Sent] = set()
        self._ends = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for session in SESSIONS:
                group.create_task(self._emit(session))
            group.create_task(self._ask())
            try:
                yield
            finally:
                self._ends.set()

    async def settled(self) -> None:
        """Until all has arrived; what has not by then is lost."""

        async def all_there() -> bool:
            return self._emitted <= set(await self._hosts.arrived())

        with contextlib.suppress(AssertionError):
            await until(all_there, timeout=_EVENTS)
        arrived = await self._hosts.arrived()
        self._seen.emitted = len(self._emitted)
        self._seen.lost = sorted(self._emitted - set(arrived))
        self._seen.out_of_order = late(arrived)

    async def _emit(self, session: str) -> None:
        sequence = 0
        while not self._ends.is_set():
            sequence += 1
            while not await self._taken(session, sequence):
                await asyncio.sleep(_AGAIN)
            self._emitted.add((session, sequence))
            await asyncio.sleep(_PAUSE)

    async def _taken(self, session: str, sequence: int) -> bool:
        try:
            return await self._hosts.post("message_received", session, sequence) == 202
        except httpx2.HTTPError:
            return False

    async def _ask(self) -> None:
        while not self._ends.is_set():
            for session in SESSIONS:
                self._seen.requests += 1
                answered = await self._answered(session)
                if answered != "200":
                    self._seen.failed_requests[answered] = self._seen.failed_requests.get(answered, 0) + 1
            await asyncio.sleep(_PAUSE)

    async def _answered(self, session: str) -> str:
        try:
            return str((await self._hosts.client.get(f"/api/sessions/{session}/status")).status_code)
        except httpx2.HTTPError as error:
            return type(error).__name__


def late(arrived: list[Sent]) -> list[Sent]:
    """What came first after a later one of its session."""
    newest: dict[str, int] = {}
    found, known = [], set()
    for sent in arrived:
        if sent not in known:
            known.add(sent)
            if sent[1] < newest.get(sent[0], 0):
                found.append(sent)
            newest[sent[0]] = max(newest.get(sent[0], 0), sent[1])
    return found


async def cut_off(deployed: Hosts, seen: Seen) -> None:
    """A gateway with its relay, then a worker, each for longer than its lease; and back."""
    await deployed.start()
    await create(deployed)
    traffic = Traffic(deployed, seen)
    async with traffic.running():
        with step(seen, "a gateway and its relay are cut off"):
            deployed.at["g2"].cut_off()
            await asyncio.sleep(8)
            deployed.at["g2"].bring_back()
            await until(lambda: is_ready(deployed, "g2"), timeout=60, what="g2 to be ready again")
        with step(seen, "a worker is cut off"):
            lost = deployed.at["w1"]
            had = await deployed.runs("w1")
            assert 0 < len(had) < len(SESSIONS)
            lost.cut_off()
            await until(lambda: runs_all(deployed, "w2"), timeout=60, what="w2 to run them all")
            seen.run_twice += sorted(await deployed.runs("w1"))
            lost.bring_back()
            await until(lambda: both_are_there(deployed), timeout=60, what="w1 to be back")
        seen.owners["at the end"] = await owners(deployed)
    await traffic.settled()


async def upgrade(deployed: Hosts, seen: Seen) -> None:
    """From the version before to this one and back, each host after the other, with events in the queue."""
    await deployed.start(RELAYS, older=True)
    await create(deployed)
    seen.owners["before"] = await owners(deployed)
    traffic = Traffic(deployed, seen)
    async with traffic.running():
        with step(seen, "to this version"):
            deployed.at["laravel"].cut_off()
            await restart_gateways(deployed, older=False)
            await restart_workers(deployed, older=False)
            seen.owners["to this version"] = await owners(deployed)
            deployed.at["laravel"].bring_back()
        with step(seen, "back again"):
            deployed.at["laravel"].cut_off()
            await restart_workers(deployed, older=True)
            await restart_gateways(deployed, older=True)
            seen.owners["back again"] = await owners(deployed)
            deployed.at["laravel"].bring_back()
    await traffic.settled()


async def restart_gateways(deployed: Hosts, *, older: bool) -> None:
    """And the relays beside them."""
    for gateway in RELAYS:
        await deployed.at[gateway].stop()
        await deployed.start_gateway(gateway, older)
        await asyncio.sleep(_BALANCER_NOTICES)


async def restart_workers(deployed: Hosts, *, older: bool) -> None:
    for worker in WORKERS:
        await deployed.at[worker].stop()
        await deployed.start_worker(worker, older)
        await until(lambda: both_are_there(deployed), timeout=60, what="both workers")


async def create(deployed: Hosts) -> None:
    for number, session in enumerate(SESSIONS):
        body = {"session_id": session, "workspace_id": number, "account_id": 1, "api_key": "k"}
        answer = await deployed.client.post("/api/sessions", json=body)
        assert answer.status_code == 200, answer.text
    await owners(deployed)


async def owners(deployed: Hosts) -> dict[str, str]:
    """Once every session has one."""
    found: dict[str, str] = {}

    async def all_have_one() -> bool:
        for session in SESSIONS:
            owner = await deployed.owner(session)
            if owner is None:
                return False
            found[session] = owner
        return True

    await until(all_have_one, timeout=60, what="an owner of each session")
    return found


async def runs_all(deployed: Hosts, worker: str) -> bool:
    return await deployed.runs(worker) == set(SESSIONS)


async def both_are_there(deployed: Hosts) -> bool:
    rows = (await deployed.status())["workers"]
    return {row["worker"] for row in rows if not row["lost"]} == set(WORKERS)


async def is_ready(deployed: Hosts, gateway: str) -> bool:
    with contextlib.suppress(httpx2.HTTPError):
        return (await deployed.client.get(f"{deployed.url(gateway)}/_sluice/readyz")).status_code == 200
    return False


@contextlib.contextmanager
def step(seen: Seen, name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seen.took[name] = round(time.monotonic() - began, 1)


async def main(scenario: str, folder: Path, older: Path | None) -> None:
    seen = Seen()
    async with hosts(folder, older) as deployed:
        try:
            await {"cut-off": cut_off, "upgrade": upgrade}[scenario](deployed, seen)
        except BaseException:
            sys.stderr.write(deployed.said())
            raise
    sys.stdout.write(orjson.dumps(asdict(seen)).decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None))
