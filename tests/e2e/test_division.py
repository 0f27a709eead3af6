"""Unmodified workers that start together divide the accounts of one Laravel among them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.running import ContractLaravel, ContractWorker, laravel, log_in, worker
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.gateway.running import POLICIES, gateway
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Fleet:
    app: ContractLaravel
    workers: list[ContractWorker]
    phones: WhatsApp

    async def runs(self) -> dict[str, list[str]]:
        """Which sessions each worker has, by its port."""
        return {str(one.port): sorted((await one.state())["sessions"]) for one in self.workers}

    async def restored(self) -> bool:
        return not any([(await one.state())["restoring"] for one in self.workers])


@asynccontextmanager
async def fleet(
    folder: Path, store_url: str, free_port: Callable[[], int], *, workers: int, accounts: int, shields: str = "{}"
) -> AsyncIterator[Fleet]:
    """Workers behind a gateway; they are started together, with a login of each account where Laravel created it."""
    ports = [free_port() for _ in range(workers)]
    named = "".join(
        f"    - {{{{name: w{i}, url: 'http://127.0.0.1:{port}', prefix: /w/w{i}}}}}\n" for i, port in enumerate(ports)
    )
    section = f"sessions:\n  lease: 3s\n  verify: workers\n  shields: {{{shields}}}\n  workers:\n{named}"
    policies = POLICIES.replace("sessions: {{lease: 15s, verify: workers}}", section)
    async with AsyncExitStack() as stack:
        phones = await stack.enter_async_context(whatsapp())
        app = await stack.enter_async_context(
            laravel(free_port(), [f"http://127.0.0.1:{port}" for port in ports], folder)
        )
        for number in range(accounts):
            await app.add(f"s{number}", number // 2, status="connected", phone_number=f"62{number}")
            port = ports[number // 2 % workers]
            log_in(folder / f"profiles-{port}", f"s{number}", number // 2, f"62{number}")
        gate = await stack.enter_async_context(gateway(folder, store_url, app.url, text=policies))
        started = [
            stack.enter_async_context(worker(port, f"{gate.url}/w/w{i}", folder, phones))
            for i, port in enumerate(ports)
        ]
        yield Fleet(app, list(await asyncio.gather(*started)), phones)


async def test_eight_workers_start_each_of_fifty_accounts_once(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    async with fleet(tmp_path, store_url, free_port, workers=8, accounts=50) as all_of_it:
        await until(all_of_it.restored, timeout=120, what="all sessions to be restored")
        runs = await all_of_it.runs()
        assert Counter(session for own in runs.values() for session in own) == Counter(f"s{i}" for i in range(50))
        assert all_of_it.phones.ran_twice() == []
        one = all_of_it.workers[3]
        await one.kill()
        await one.start()
        await until(all_of_it.restored, timeout=60, what="the sessions of one worker to be restored")
        assert await all_of_it.runs() == runs
        assert all_of_it.phones.ran_twice() == []


async def test_switched_off_every_worker_starts_every_account(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    """That is what the shield is for."""
    shields = "{divide: false}"
    async with fleet(tmp_path, store_url, free_port, workers=2, accounts=3, shields=shields) as both:
        await until(both.restored, timeout=60)
        assert set(map(tuple, (await both.runs()).values())) == {("s0", "s1", "s2")}
        assert {twice.session for twice in both.phones.ran_twice()} == {"s0", "s1", "s2"}
