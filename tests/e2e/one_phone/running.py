"""The hundred runs, or fewer: `async with racing(folder, free_port, keep) as race: await race.run(number, chance)`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import orjson
import yaml

from sessions.lifecycle.phones import Keep
from sessions.registry import Registry, SessionRow
from sluice.store.client import Store
from tests.contract.running import ContractLaravel, laravel
from tests.e2e.deployment import SECRETS, answers
from tests.nemesis.fleet import Process
from tests.sluice.store.store_servers import Server
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent.parent
LEASE = 2.0
_SETTLED = 0.4
"""Seconds for which an end must stay one."""
_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    stays: str
    killed: str
    seconds: float


class Race:
    def __init__(self, folder: Path, free_port: Callable[[], int], keep: Keep) -> None:
        self.keep = keep
        self._profiles = folder / "profiles"
        self._profiles.mkdir()
        self._store_server = Server(folder, free_port(), "--appendonly", "yes")
        self._laravel_port = free_port()
        ports = [free_port(), free_port()]
        self._gateways = [f"http://127.0.0.1:{port}" for port in ports]
        files = [self._policies(folder, port) for port in ports]
        self.processes = {
            f"gateway-{number}": Process(
                f"gateway-{number}", folder / f"gateway-{number}.log", "sluice", "gateway", "--policies", str(file)
            )
            for number, file in enumerate(files)
        }
        self._relay = Process("relay", folder / "relay.log", "sluice", "relay", "--policies", str(files[0]))
        self._workers = {name: f"http://127.0.0.1:{free_port()}" for name in ("w1", "w2")}
        for number, (name, url) in enumerate(self._workers.items()):
            order = self._gateways[number:] + self._gateways[:number]
            about = ("--name", name, "--port", url.rpartition(":")[2], "--profiles", str(self._profiles))
            rest = ("--policies", str(files[number]), "--gateways", *order)
            log = folder / f"{name}.log"
            self.processes[name] = Process(name, log, "tests.e2e.one_phone.worker", *about, *rest)

    async def open(self, stack: AsyncExitStack, folder: Path) -> None:
        self._store_server.start()
        stack.callback(self._store_server.kill)
        given = ("--limiter", "1000000", "--secret", SECRETS["WHATSAPP_HMAC_SECRET"])
        self.app: ContractLaravel = await stack.enter_async_context(
            laravel(self._laravel_port, self._gateways, folder, *given)
        )
        self._store = Store(self._store_server.url, timeout=5.0)
        stack.push_async_callback(self._store.close)
        self.registry = Registry(self._store, LEASE)
        self._http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=3.0))
        for process in (self._relay, *self.processes.values()):
            stack.push_async_callback(process.kill)
            await process.start()
        for number, url in enumerate(self._gateways):
            ready, process = f"{url}/_sluice/readyz", self.processes[f"gateway-{number}"]
            await until(partial(answers, ready), timeout=60, what=process.said)

    async def run(self, numbers: Sequence[int], chance: random.Random) -> list[Outcome]:
        """For each number two accounts of one phone are scanned at the same time, and somebody is killed meanwhile.

        Raises AssertionError where not exactly one of them is left.
        """
        pairs = [_pair(number) for number in numbers]
        began = time.monotonic()
        await asyncio.gather(*map(self._place, pairs, numbers))
        at, killed = time.monotonic() + 0.2, chance.choice(sorted(self.processes))
        for pair, number in zip(pairs, numbers, strict=True):
            for session in pair:
                self._scan(session, number, at + chance.choice((0.0, chance.uniform(0.0, 0.3))))
        await asyncio.sleep(0.2 + chance.uniform(0.0, 1.0))
        await self.processes[killed].kill()
        await self.processes[killed].start()
        stay = await asyncio.gather(*map(self._one_is_left, pairs, numbers))
        for pair in pairs:
            for session in pair:
                await self.registry.forget(session, closed=False)
        return [Outcome(stays, killed, time.monotonic() - began) for stays in stay]

    def _scan(self, session: str, workspace: int, at: float) -> None:
        """It is connected with its phone from that moment on (`time.monotonic`)."""
        login = {"phone": f"49{workspace:09d}", "workspace": workspace, "at": at}
        new = self._profiles / f"{session}.new"
        new.write_bytes(orjson.dumps(login))
        new.rename(self._profiles / f"{session}.json")

    async def _place(self, pair: tuple[str, str], workspace: int) -> None:
        """Each at a worker of its own, and in Laravel's table."""
        for session in pair:
            await self.app.add(session, workspace, status="qr_scanning")
        homes = dict(zip(pair, self._workers, strict=True))
        await self.registry.want({session: {"workspace_id": workspace} for session in pair})
        seen: dict[str, Any] = {}

        async def placed() -> bool:
            for session, home in homes.items():
                row = await self.registry.session(session)
                assert row is not None
                if row.worker is not None and row.worker != home:
                    await self.registry.move(session, home)
                seen[session] = row.state, row.worker, row.history[-3:]
            runs = seen["runs"] = await self._runs()
            return all(session in runs.get(home, {}) for session, home in homes.items())

        await until(placed, timeout=_WITHIN, what=lambda: f"{pair} at their workers: {seen}")

    async def _one_is_left(self, pair: tuple[str, str], workspace: int) -> str:
        """Which one, for good."""
        seen: dict[str, Any] = {}

        async def one() -> bool:
            seen.clear()
            seen.update(await self._look(pair, workspace))
            return bool(seen["left"])

        await until(one, timeout=_WITHIN, what=lambda: f"one of {pair} to be left: {seen}")
        found = seen["left"]
        await asyncio.sleep(_SETTLED)
        await until(one, timeout=_WITHIN, what=lambda: f"{found} to be still there: {seen}")  # it may be moving
        assert self.keep == "allow" or seen["left"] == found, seen  # with allow the row is that of the last one
        return str(seen["left"])

    async def _look(self, pair: tuple[str, str], workspace: int) -> dict[str, Any]:
        """`left`: the session that is connected everywhere, where there is exactly one; with `allow`: at Laravel."""
        rows = [await self.registry.session(session) for session in pair]
        connected = [row.session for row in rows if row is not None and _is_connected(row)]
        runs = await self._runs()
        running = [session for session in pair for here in runs.values() if session in here]
        accounts = [row for row in await self.app.test("accounts") if row["workspace_id"] == workspace]
        at_laravel = [
            row["session_id"] for row in accounts if row["status"] == "connected" and row["deleted_at"] is None
        ]
        notices = [one for one in await self.registry.notices() if one.session in pair]
        settled = not notices and len(runs) == len(self._workers)
        if self.keep == "allow":
            both = len(connected) == len(running) == 2
            left = at_laravel[0] if settled and both and len(at_laravel) == 1 else ""
        else:
            over = [row for row in rows if row is not None and row.ended]
            same = len(over) == len(connected) == 1 and connected == running == at_laravel
            left = connected[0] if settled and same else ""
        return {
            "left": left,
            "connected": connected,
            "running": running,
            "laravel": at_laravel,
            "rows": [(row.session, row.state, row.ended, row.worker) for row in rows if row is not None],
            "accounts": [(row["session_id"], row["status"], row["deleted_at"] is not None) for row in accounts],
        }

    async def _runs(self) -> dict[str, dict[str, str]]:
        """What each worker that answers runs, and how it stands."""
        found = {}
        for name, url in self._workers.items():
            try:
                found[name] = (await self._http.get(f"{url}/runs")).json()
            except httpx2.HTTPError:
                continue
        return found

    def _policies(self, folder: Path, port: int) -> Path:
        """policies.yaml as it is shipped, but for addresses and times."""
        read: dict[str, Any] = yaml.safe_load((ROOT / "policies.yaml").read_text())
        at = f"http://127.0.0.1:{self._laravel_port}"
        read["listen"] = f"127.0.0.1:{port}"
        read["data"] = str(folder / f"data-{port}")
        read["store"] = {"url": self._store_server.url, "promise": "second"}
        read["upstreams"]["laravel"]["url"] = at
        read["relay"]["endpoints"]["laravel"] |= {"url": at, "rate": "60000/minute"}
        read["sessions"] |= {"lease": f"{LEASE:g}s", "one_phone": self.keep, "workers": []}
        file = folder / f"policies-{port}.yaml"
        file.write_text(yaml.safe_dump(read))
        return file


def _pair(number: int) -> tuple[str, str]:
    return f"a{number}", f"b{number}"


def _is_connected(row: SessionRow) -> bool:
    return row.state == "connected" and row.worker is not None and not row.ended


@asynccontextmanager
async def racing(folder: Path, free_port: Callable[[], int], keep: Keep = "newest") -> AsyncIterator[Race]:
    async with AsyncExitStack() as stack:
        race = Race(folder, free_port, keep)
        await race.open(stack, folder)
        yield race
