"""Starts the contract's processes on ports of this machine, and stops them by pid.

async with whatsapp() as phones, laravel(port, [gateway]) as app, worker(port, gateway, folder, phones) as one:
    await app.add("s1", 1, status="connected")
    await app.do("check", "s1")
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.contract.whatsapp import WhatsApp, whatsapp as whatsapp
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
SECRET = "the-hmac-secret"


class ContractProcess:
    """One process, started as often as one likes, and asked over `/_test/`. `output` is a file."""

    def __init__(self, module: str, port: int, arguments: Sequence[str], output: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process: asyncio.subprocess.Process | None = None
        self._command = (sys.executable, "-m", module, "--port", str(port), *arguments)
        self._output = output
        self._http = httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=120.0)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self, *, within: float = 60.0) -> None:
        """Returns once it listens."""
        with self._output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        await until(self._listens, timeout=within, what=lambda: f"{self._command[2]}; it said:\n{self.said()}")

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """`kill -9`, also of a frozen one; returns once it is gone."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def terminate(self, *, within: float = 30.0) -> None:
        """SIGTERM, and `kill -9` when it takes longer; PM2 gives 5 s."""
        if self.process is None or self.process.returncode is not None:
            return
        self.thaw()
        self.process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.process.wait()
        await self.kill()

    async def ended(self, *, within: float = 60.0) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process is not None
        async with asyncio.timeout(within):
            return await self.process.wait()

    def said(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    async def close(self) -> None:
        await self.kill()
        await self._http.aclose()

    async def test(self, what: str, **fields: Any) -> Any:
        """Asks under `/_test/`."""
        answer = await self._http.post(f"/_test/{what}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ask(self, method: str, target: str, **how: Any) -> httpx2.Response:
        """Directly, past any gateway."""
        return await self._http.request(method, target, **how)

    async def _listens(self) -> bool:
        assert self.alive, f"it has ended:\n{self.said()}"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


class ContractWorker(ContractProcess):
    """`phones`: WhatsApp's record, if it is watched."""

    def __init__(
        self, port: int, laravel_url: str, folder: Path, phones: WhatsApp | None, arguments: Sequence[str]
    ) -> None:
        watched = ("--whatsapp", str(phones.port)) if phones else ()
        given = ("--laravel-url", laravel_url, *watched, *arguments)
        super().__init__("tests.contract.worker", port, given, folder / f"worker-{port}.log")
        self._phones = phones

    async def kill(self) -> None:
        alive = self.alive
        await super().kill()
        if alive and self._phones is not None:
            self._phones.gone(self.pid, time.monotonic())

    async def state(self) -> dict[str, Any]:
        """What it runs, what it was asked and what it has sent: see `tests.contract.worker`."""
        found: dict[str, Any] = await self.test("state")
        return found

    async def set(self, **what: Any) -> None:
        """`slow`, `says`, `odd`, `fails`, `key`: see `tests.contract.worker`."""
        await self.test("set", **what)

    async def receive(self, session: str, *, body: str = "hello", identity: str | None = None) -> None:
        """Somebody writes to the session."""
        await self.test("receive", session_id=session, body=body, id=identity)

    async def emit(self, event: str, **data: Any) -> None:
        await self.test("emit", event=event, data=data)

    async def status(self, session: str) -> str | None:
        """None: it does not run it."""
        found = (await self.state())["sessions"].get(session)
        return None if found is None else str(found["status"])


class ContractLaravel(ContractProcess):
    def __init__(self, port: int, instances: Sequence[str], folder: Path, arguments: Sequence[str]) -> None:
        given = ("--instances", *instances, *arguments)
        super().__init__("tests.contract.laravel", port, given, folder / f"laravel-{port}.log")

    async def add(self, session: str, workspace: int, **fields: Any) -> dict[str, Any]:
        """An account's row: `phone_number`, `status`, … as in `tests.contract.accounts`."""
        rows = await self.test("add", rows=[{"session": session, "workspace": workspace, **fields}])
        row: dict[str, Any] = rows[0]
        return row

    async def do(self, verb: str, session: str, **fields: Any) -> dict[str, Any]:
        """Makes it call a worker (`tests.contract.calls`); the `status` (0: none) and `value` of the answer."""
        said: dict[str, Any] = await self.test(f"do/{verb}", session_id=session, **fields)
        return said

    async def set(self, **what: Any) -> None:
        """`down`, `slow`, `slow_active`, and of its calls `instances`, `key`, `scale`."""
        await self.test("set", **what)

    async def accounts(self) -> dict[str, dict[str, Any]]:
        """Every row, soft-deleted ones too, by session."""
        return {row["session_id"]: row for row in await self.test("accounts")}

    async def account(self, session: str) -> dict[str, Any]:
        return (await self.accounts())[session]

    async def shown(self, what: str) -> list[dict[str, Any]]:
        """`messages`, `marks`, `webhooks`, `others` or `calls`."""
        found: list[dict[str, Any]] = await self.test(what)
        return found


@asynccontextmanager
async def worker(
    port: int,
    laravel_url: str,
    folder: Path,
    phones: WhatsApp | None = None,
    *arguments: str,
    scale: float = 0.01,
    start: bool = True,
) -> AsyncIterator[ContractWorker]:
    """Started, unless told not to be. Its profiles lie in `folder/profiles-PORT`, or where `--profiles` says."""
    given = ("--profiles", str(folder / f"profiles-{port}"), "--scale", str(scale), *arguments)
    one = ContractWorker(port, laravel_url, folder, phones, given)
    try:
        if start:
            await one.start()
        yield one
    finally:
        await one.close()


@asynccontextmanager
async def laravel(port: int, instances: Sequence[str], folder: Path, *arguments: str) -> AsyncIterator[ContractLaravel]:
    app = ContractLaravel(port, instances, folder, arguments)
    try:
        await app.start()
        yield app
    finally:
        await app.close()


def log_in(profiles: Path, session: str, workspace: int, phone: str) -> None:
    """Leaves a login in the session's profile, so that a create of it needs no QR."""
    profile = profiles / f"workspace_{workspace}" / f"session-{session}"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "login.json").write_text(f'{{"device": "{session}-{os.urandom(4).hex()}", "phone": "{phone}"}}')
