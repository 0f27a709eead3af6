"""A whole Sluice in processes of its own: ports, data and secrets made for it, everything stopped by pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson

from gateway.policies import Policies, load
from sluice.cli import status
from sluice.cli.errors import CommandError
from sluice.demo import traffic
from sluice.http import client as http1
from sluice.http.decode import encode
from sluice.http.signatures import sign
from sluice.process.boottime import boottime
from tests.started import started
from tests.waiting import until

SECRETS = {"WHATSAPP_HMAC_SECRET": "the-hmac-secret-of-tests", "SLUICE_CONSOLE_TOKEN": "the-console-token"}
WEBHOOKS = b"/api/whatsapp/webhooks/webjs"
ORDERED = ("message_received", "message_status_updated")

POLICIES = """
version: 1
listen: 127.0.0.1:{gateway}
data: data
store: {{promise: second}}
trust: {{lists: {{laravel: [127.0.0.1/32]}}}}
upstreams: {{laravel: {{url: "http://127.0.0.1:{laravel}"}}}}
signatures:
  workers: {{preset: blazz, secret: env:WHATSAPP_HMAC_SECRET}}
  laravel: {{preset: blazz, secret: env:WHATSAPP_HMAC_SECRET}}
routes:
  - path: /api/whatsapp/webhooks/*
    methods: [POST]
    verify: workers
    event: {{json: /event}}
    session: {{json: /data/session_id}}
    relay: laravel
  - {{path: /api/sessions, methods: [GET], workers: list}}
  - {{path: /api/sessions, methods: [POST], session: {{json: /session_id}}, workers: place}}
  - {{path: "/api/sessions/{{session}}/**", workers: owner}}
  - {{path: /api/messages/*, session: {{json: /session_id}}, event: message_send, workers: owner}}
  - {{path: /**, upstream: laravel}}
limits:
  - {{id: message, event: message_received, per: [session], rate: 1000/minute, burst: 200, over: queue}}
  - {{id: receipt, event: message_status_updated, per: [session], rate: 2000/minute, burst: 400, over: queue}}
  - {{id: typing, event: typing_indicator, per: [session], rate: 60/minute, burst: 3, over: drop}}
  - {{id: address, per: [ip], rate: 3000/minute, burst: 500, except: [laravel]}}
relay:
  endpoints:
    laravel:
      url: http://127.0.0.1:{laravel}
      sign: laravel
      timeout: 1s
      circuit: {{open: 200ms, cap: 200ms}}
  lanes: {{urgent: [session_*], bulk: [typing_indicator, heartbeat]}}
  events:
    typing_indicator: {{ttl: 500ms, keep: latest}}
    heartbeat: {{ttl: 1s, keep: latest}}
sessions: {{lease: 3s, per_worker: 60, verify: workers}}
console: {{token: env:SLUICE_CONSOLE_TOKEN}}
"""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A webhook that was answered 202 `queued`."""

    id: str
    event: str
    session: str
    sequence: int | None


@dataclass(slots=True)
class Produced:
    """What came of a run of traffic."""

    offered: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    dropped: int = 0
    """Answered 202 `dropped`: a limit said so."""
    refused: dict[str, int] = field(default_factory=dict)

    def ordered(self) -> list[Accepted]:
        return [one for one in self.accepted if one.event in ORDERED]


class Deployment:
    """One `sluice up`, and beside it whatever the test starts."""

    def __init__(self, folder: Path, ports: tuple[int, int]) -> None:
        self.gateway = f"http://127.0.0.1:{ports[0]}"
        self.laravel = f"http://127.0.0.1:{ports[1]}"
        self._laravel_port = ports[1]
        self.file = folder / "policies.yaml"
        self.file.write_text(POLICIES.format(gateway=ports[0], laravel=ports[1]))
        self.policies: Policies = load(self.file, environment=SECRETS)
        self._output = folder / "output.txt"
        self._processes: list[asyncio.subprocess.Process] = []
        self.up: asyncio.subprocess.Process | None = None
        self.environment: dict[str, str] = {}
        """What its processes get beside ours and the secrets."""
        self.under: tuple[str, ...] = ()
        """The command under which they run."""

    async def start_laravel(self, minute: float) -> None:
        """`minute` in seconds."""
        listen = f"127.0.0.1:{self._laravel_port}"
        await self.sluice("demo-laravel", "--listen", listen, "--minute", f"{minute * 1000:.0f}ms")
        await until(lambda: answers(f"{self.laravel}/ledger"), timeout=60, what="the demo's Laravel")

    async def start_up(self, *arguments: str) -> None:
        self.up = await self.sluice("up", *arguments)
        await until(self.ready, timeout=90, what=lambda: f"sluice up; it said:\n{self.said()}")

    async def start_worker(self, name: str) -> asyncio.subprocess.Process:
        return await self.sluice("worker", "--driver", "demo", "--name", name)

    async def sluice(self, *arguments: str) -> asyncio.subprocess.Process:
        return await self.module("sluice", *arguments)

    async def module(self, name: str, *arguments: str) -> asyncio.subprocess.Process:
        """A process of that module, with the policies."""
        with self._output.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(*self.under, sys.executable, "-P", "-m", name, *arguments, "--policies", str(self.file)),
                env={**os.environ, **SECRETS, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._processes.append(process)
        return process

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """A command that ends by itself: its exit code, what it printed, and what it complained about."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "sluice", *arguments, "--policies", str(self.file)),
            env={**os.environ, **SECRETS, "COLUMNS": "200"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(30):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
            raise AssertionError(f"sluice {' '.join(arguments)} does not end") from None
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def send(self, session: str, sequence: int = 1, *, event: str = "message_received") -> str:
        """One webhook, as a worker sends it; the id under which it was accepted."""
        body = orjson.dumps({"event": event, "data": {"session_id": session, "sequence": sequence}})
        headers = [
            (b"content-type", b"application/json"),
            *sign(self.policies.signatures["workers"], body, time.time()),
        ]
        async with httpx2.AsyncClient(base_url=self.gateway, trust_env=False, timeout=10) as client:
            answer = await client.post(WEBHOOKS.decode(), content=body, headers=headers)
        assert answer.status_code == 202, answer.text
        identity: str = answer.json()["id"]
        return identity

    def said(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    async def ready(self) -> bool:
        return await answers(f"{self.gateway}/_sluice/readyz")

    async def kill_child(self, name: str) -> int:
        """`kill -9` of a child of `sluice up`, once it is there; its pid."""
        found: list[int] = []

        def there() -> bool:
            found[:] = [pid for pid in self._children() if name in _command_line(pid)]
            return bool(found)

        await until(there, what=f"a process of {name}")
        os.kill(found[0], signal.SIGKILL)
        return found[0]

    def runs_for(self, name: str) -> float:
        """Seconds since a child of `sluice up` was started; 0: it is not there."""
        with contextlib.suppress(OSError):
            found = [pid for pid in self._children() if name in _command_line(pid)]
            return max((boottime() - started(pid) for pid in found), default=0.0)
        return 0.0

    def family(self) -> list[int]:
        """The process ids of `sluice up` and of all it has started."""
        assert self.up is not None
        return [self.up.pid, *self._children()]

    def _children(self) -> list[int]:
        assert self.up is not None
        with contextlib.suppress(FileNotFoundError):
            return [int(pid) for pid in Path(f"/proc/{self.up.pid}/task/{self.up.pid}/children").read_text().split()]
        return []

    async def status(self) -> dict[str, Any]:
        """As it travels."""
        told: dict[str, Any] = orjson.loads(encode(await status.fetch(self.policies)))
        return told

    async def drained(self) -> bool:
        """Nothing waits and nothing is under way."""
        try:
            endpoint = (await self.status())["endpoints"]["laravel"]
        except CommandError:
            return False
        return endpoint["waiting"] == 0 and endpoint["leased"] == 0

    async def delivered(self) -> int:
        try:
            return int((await self.status())["endpoints"]["laravel"]["delivered"] or 0)
        except CommandError:
            return 0

    async def ledger(self) -> dict[str, Any]:
        async with httpx2.AsyncClient(trust_env=False) as client:
            summary: dict[str, Any] = (await client.get(f"{self.laravel}/ledger")).json()
        return summary

    async def arrived(self) -> list[dict[str, Any]]:
        """Every delivery that Laravel took, in the order it did."""
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            text = (await client.get(f"{self.laravel}/ledger/events")).text
        return [orjson.loads(line) for line in text.splitlines()]

    async def stop(self) -> None:
        for process in reversed(self._processes):
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
        for process in self._processes:
            try:
                async with asyncio.timeout(60):
                    await process.wait()
            except TimeoutError:
                process.kill()
                raise AssertionError(f"a process did not stop:\n{self.said()}") from None


@asynccontextmanager
async def deployment(folder: Path, ports: tuple[int, int]) -> AsyncIterator[Deployment]:
    deployed = Deployment(folder, ports)
    try:
        yield deployed
    finally:
        await deployed.stop()


async def produce(policies: Policies, url: str, *, sessions: int, minutes: int, minute: float) -> Produced:
    """The demo's mix, sent as the workers send it: in order per session, signed, once, never again.

    `minute` in seconds is how long a minute of the mix takes here.
    """
    produced = Produced()
    origin = http1.Origin.of(url)
    pool = http1.Pool(origin, connect=5.0, limit=sessions, wait=30.0)
    started = time.monotonic()

    async def one_session(session: str) -> None:
        for number in range(minutes):
            for timed in traffic.minute(session, number):
                at = started + (number + timed.at) * minute
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                await _post(pool, policies, timed.event, produced)

    try:
        async with asyncio.TaskGroup() as group:
            for session in traffic.names(sessions):
                group.create_task(one_session(session))
    finally:
        await pool.close()
    return produced


async def _post(pool: http1.Pool, policies: Policies, event: Mapping[str, Any], produced: Produced) -> None:
    body = orjson.dumps(event)
    headers = [(b"Host", pool.origin.authority), (b"Content-Type", b"application/json")]
    headers += sign(policies.signatures["workers"], body, time.time())
    produced.offered += 1
    try:
        code, _, answer = await http1.exchange(pool, b"POST", WEBHOOKS, headers, body, timeout=10.0, most=4096)
    except http1.UpstreamError as error:
        produced.refused[type(error).__name__] = produced.refused.get(type(error).__name__, 0) + 1
        return
    told = orjson.loads(answer) if code == 202 else {}
    if told.get("status") == "queued":
        data = event["data"]
        produced.accepted.append(Accepted(told["id"], event["event"], data["session_id"], data.get("sequence")))
    elif told.get("status") == "dropped":
        produced.dropped += 1
    elif code >= 300:
        produced.refused[str(code)] = produced.refused.get(str(code), 0) + 1


async def answers(url: str) -> bool:
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as client:
            return (await client.get(url)).status_code == 200
    except httpx2.HTTPError:
        return False


def _command_line(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
