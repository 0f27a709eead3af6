"""Three gateways, a relay, two of our own workers and two existing ones, each a process of its own, on one store.

With `Kind.browsers` there are as many of our own besides whose sessions run in real browsers, on the stand-in for
WhatsApp Web. Sessions go from one kind of our own to the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from sessions.worker.browser import wa_js
from sluice.process import npm
from tests.contract.running import ContractWorker, log_in
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.e2e.deployment import SECRETS, answers
from tests.nemesis.history import History
from tests.nemesis.receiver import receiving
from tests.sluice.store.store_servers import Server
from tests.stepping_clock import SteppingClock
from tests.waiting import until
from tests.whatsapp import server as web

ROOT = Path(__file__).parent.parent.parent
LEASE = 4.0
KEY = "the-node-key"
GATEWAYS, OWN, EXISTING = 3, ("w1", "w2"), ("x0", "x1")
RESTORED_WITHIN = 60.0
_STARTED_WITHIN = 180.0  # seconds, of a process on a machine that does much else
_SCALE = 0.02  # of the seconds that an existing worker takes for things
_ENVIRONMENT = {**SECRETS, "NODE_KEY": KEY, "SLUICE_SUPERVISED": "1", "SLUICE_VAULT_KEY": f"{KEY}-of-the-vault-012345"}
"""As `sluice up` starts its processes: one that starts while the store is frozen waits for it, and does not end."""


class Process:
    """Started as often as one likes, always by the same command; what it says is added to a file."""

    def __init__(self, name: str, output: Path, *command: str) -> None:
        self.name = name
        self._output = output
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, *more: str, **environment: str) -> None:
        with self._output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", *self._command, *more),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **_ENVIRONMENT, **environment},
                stdin=asyncio.subprocess.PIPE,  # it ends with us
                stdout=output,
                stderr=output,
            )

    def freeze(self) -> None:
        self._tell(signal.SIGSTOP)

    def thaw(self) -> None:
        self._tell(signal.SIGCONT)

    async def kill(self) -> None:
        self._tell(signal.SIGKILL)
        await self._ended()

    async def terminate(self, within: float = 60.0) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        self._tell(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._ended()
        await self.kill()

    def said(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    def _tell(self, number: signal.Signals) -> None:
        if self.alive:
            assert self._process is not None
            self._process.send_signal(number)

    async def _ended(self) -> None:
        if self._process is not None:
            await self._process.wait()


@dataclass(frozen=True)
class Kind:
    """Of a fleet, what differs from run to run."""

    gateways: int = GATEWAYS
    own: Sequence[str] = ()
    """More arguments of workers of ours."""
    existing: Sequence[str] = ()
    """More arguments of existing workers."""
    sessions: dict[str, Any] = field(default_factory=dict)
    """More of that section of the policies."""
    edit: Callable[[dict[str, Any]], object] = lambda policies: None
    """Of all of the policies."""
    fsync: str = "everysec"
    browsers: int = 0
    """Workers with browsers."""


class Fleet:
    """`accounts`: session → workspace, of the existing workers, which share them by workspace."""

    def __init__(
        self,
        folder: Path,
        free_port: Callable[[], int],
        phones: WhatsApp,
        *,
        accounts: int,
        kind: Kind,
        whatsapp: web.WhatsApp | None = None,
    ) -> None:
        self._kind = kind
        self.whatsapp = whatsapp
        """Of the workers with browsers."""
        self.disks: dict[str, Path] = {}
        """Of those, and of their twins."""
        self.folder = folder
        self.phones = phones
        self.history_folder = folder / "history"
        self.history_folder.mkdir()
        self.history = History(self.history_folder / "harness.jsonl")
        self.clock = SteppingClock(folder)
        self.store = Server(folder, free_port(), "--appendonly", "yes", "--appendfsync", kind.fsync, clock=self.clock)
        self.laravel_port = free_port()
        self.accounts = {f"x-{number}": number % len(EXISTING) for number in range(accounts)}
        self.existing_of = {session: EXISTING[workspace] for session, workspace in self.accounts.items()}
        ports = [free_port() for _ in range(kind.gateways)]
        self.gateways = [f"http://127.0.0.1:{port}" for port in ports]
        existing_ports = {name: free_port() for name in EXISTING}
        self._files = [self._policies(port, existing_ports) for port in ports]
        self.gateway_processes = [
            self._process(f"gateway-{number}", "sluice", "gateway", "--policies", str(file))
            for number, file in enumerate(self._files)
        ]
        self.relay = self._process("relay", "sluice", "relay", "--policies", str(self._files[0]))
        browsers = [f"b{number}" for number in range(1, kind.browsers + 1)]
        names = (*OWN, *browsers)
        self.disks |= {called: folder / f"disk-{called}" for name in browsers for called in (name, f"{name}-twin")}
        self.own = {name: self.own_worker(name, free_port(), number) for number, name in enumerate(names)}
        self._twin_ports = {name: free_port() for name in names}
        self.existing = {
            name: self._existing_worker(name, port, number)
            for number, (name, port) in enumerate(existing_ports.items())
        }

    def own_worker(self, name: str, port: int, number: int, *, twin: bool = False) -> Process:
        """`number`: of the gateway that it is a member at."""
        number %= len(self.gateways)
        order = self.gateways[number:] + self.gateways[:number]
        called = f"{name}-twin" if twin else name
        file = self.history_folder / f"{called}.jsonl"
        about = ("--history", str(file), "--name", name, "--port", str(port), "--policies", str(self._files[number]))
        if name in OWN:
            more = ("--gateways", *order, *self._kind.own)
            return self._process(called, "tests.nemesis.own_worker", *about, *more)
        more = ("--data", str(self.disks[called]), "--gateways", *order)
        return self._process(called, "tests.nemesis.browser_worker", *about, *more)

    def twin_of(self, name: str) -> Process:
        return self.own_worker(name, self._twin_ports[name], [*self.own].index(name), twin=True)

    async def start(self) -> None:
        self.store.start()
        for process in (*self.gateway_processes, self.relay):
            await process.start()
        for number in range(len(self.gateways)):
            await self.gateway_answers(number)
        for own in self.own.values():
            await own.start()
        for existing in self.existing.values():
            await existing.start()
        for name in EXISTING:
            await self.restored(name)

        for name in self.own:
            await self.own_is_back(name)

    async def own_is_back(self, name: str) -> None:
        async def beats() -> bool:
            return any(row["worker"] == name and not row["lost"] for row in (await self.status())["workers"])

        await until(beats, timeout=_STARTED_WITHIN, what=lambda: f"{name}; it said:\n{self.own[name].said()}")

    async def status(self) -> dict[str, Any]:
        """As `sluice status` has it."""
        headers = {"Authorization": f"Bearer {SECRETS['SLUICE_CONSOLE_TOKEN']}"}
        async with httpx2.AsyncClient(base_url=self.gateways[0], trust_env=False, timeout=10) as client:
            told: dict[str, Any] = (await client.get("/_sluice/api/status", headers=headers)).json()
        return told

    async def gateway_answers(self, number: int) -> None:
        url, process = f"{self.gateways[number]}/_sluice/readyz", self.gateway_processes[number]
        await until(
            lambda: answers(url), timeout=_STARTED_WITHIN, what=lambda: f"{process.name}; it said:\n{process.said()}"
        )

    async def restored(self, name: str) -> None:
        """An existing worker has started what is its. One whose only question for its accounts was cut off, as by a
        gateway that was killed, starts nothing: it is started again, which is the cure that `status` names."""
        worker = self.existing[name]
        mine = sum(owner == name for owner in self.existing_of.values())

        async def all_run() -> bool:
            state = await worker.state()
            if state["restoring"]:
                return False
            if len(state["sessions"]) < mine:
                self.history.note("started_again", worker=name)
                await worker.kill()
                await worker.start()
                return False
            return True

        await until(all_run, timeout=RESTORED_WITHIN, what=lambda: f"{name} to restore; it said:\n{worker.said()}")

    async def stop(self) -> None:
        for existing in self.existing.values():
            await existing.close()
        for process in (*self.own.values(), self.relay, *self.gateway_processes):
            process.thaw()
        await asyncio.gather(*(own.terminate() for own in self.own.values()))
        await asyncio.gather(*(process.terminate() for process in (self.relay, *self.gateway_processes)))
        self.store.kill()
        self.history.close()

    def _process(self, name: str, *command: str) -> Process:
        return Process(name, self.folder / f"{name}.log", *command)

    def _existing_worker(self, name: str, port: int, number: int) -> ContractWorker:
        profiles = self.folder / f"profiles-{name}"
        for session, workspace in self.accounts.items():
            if workspace == number:
                log_in(profiles, session, workspace, f"49{int(session[2:]):09d}")
        laravel = f"{self.gateways[number % len(self.gateways)]}/w/{name}"
        arguments = ("--profiles", str(profiles), "--scale", str(_SCALE), "--api-key", KEY, "--name", name)
        arguments += tuple(self._kind.existing)
        return ContractWorker(port, laravel, self.folder, self.phones, arguments)

    def _policies(self, port: int, existing: dict[str, int]) -> Path:
        """policies.yaml as it is shipped, but for addresses, times and room for the load."""
        read: dict[str, Any] = yaml.safe_load((ROOT / "policies.yaml").read_text())
        laravel = f"http://127.0.0.1:{self.laravel_port}"
        read["listen"] = f"127.0.0.1:{port}"
        read["data"] = str(self.folder / f"data-{port}")
        read["store"] = {"url": self.store.url, "promise": "second"}
        read["upstreams"]["laravel"]["url"] = laravel
        read["relay"]["endpoints"]["laravel"] |= {"url": laravel, "rate": "60000/minute"}
        read["sessions"] |= {
            "lease": f"{LEASE:g}s",
            "per_worker": 60,
            "advertise": self.gateways[0],
            "workers": [
                {"name": name, "url": f"http://127.0.0.1:{at}", "key": "env:NODE_KEY", "prefix": f"/w/{name}"}
                for name, at in existing.items()
            ],
            **self._browsers(),
            **self._kind.sessions,
        }
        self._kind.edit(read)
        file = self.folder / f"policies-{port}.yaml"
        file.write_text(yaml.safe_dump(read))
        return file

    def _browsers(self) -> dict[str, Any]:
        if self.whatsapp is None:
            return {}
        vault = {"key": "env:SLUICE_VAULT_KEY", "every": "60s"}
        return {"browser": {"path": self.whatsapp.browser, "start_at_once": 2}, "vault": vault}


@asynccontextmanager
async def fleet(
    folder: Path, free_port: Callable[[], int], *, accounts: int, kind: Kind | None = None
) -> AsyncIterator[Fleet]:
    """Started. `accounts`: sessions of the existing workers."""
    async with AsyncExitStack() as stack:
        phones, kind = await stack.enter_async_context(whatsapp()), kind or Kind()
        server = None
        if kind.browsers:
            await asyncio.to_thread(npm.install, (wa_js.PACKAGE,), wa_js.FOLDER)
            server = await stack.enter_async_context(web.whatsapp(folder))
        made = Fleet(folder, free_port, phones, accounts=accounts, kind=kind, whatsapp=server)
        stack.push_async_callback(made.stop)
        await stack.enter_async_context(receiving(made.laravel_port, made.history, made.accounts))
        await made.start()
        yield made
