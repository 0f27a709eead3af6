"""A deployment over several hosts: three gateways behind one address, two relays, two workers, a store, a Laravel."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import orjson

from gateway.policies import Policies, load
from sluice.http.signatures import sign
from sluice.store.embedded import find_server
from tests.apart.network import Host, network
from tests.e2e.deployment import SECRETS, answers
from tests.waiting import until

ROOT = Path(__file__).parents[2]
GATEWAYS, RELAYS, WORKERS = ("g1", "g2", "g3"), ("g1", "g2"), ("w1", "w2")
_HOSTS = {"balancer": 10, "g1": 11, "g2": 12, "g3": 13, "store": 20, "w1": 31, "w2": 32, "laravel": 40}
FRONT = "http://10.77.0.10:8080"
_WORKER = 9001
_STARTS_WITHIN = 120.0

_POLICIES = f"""
version: 1
listen: 0.0.0.0:8080
data: data
store: {{url: "redis://10.77.0.20:6379", timeout: 1s}}
trust: {{proxies: [10.77.0.10/32]}}
upstreams: {{laravel: {{url: "http://10.77.0.40:8000"}}}}
signatures: {{workers: {{preset: blazz, secret: env:WHATSAPP_HMAC_SECRET}}}}
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
  - {{path: /**, upstream: laravel}}
relay:
  endpoints:
    laravel: {{url: "http://10.77.0.40:8000", sign: workers, timeout: 2s, circuit: {{open: 500ms, cap: 1s}}}}
sessions: {{lease: 4s, per_worker: 50, verify: workers, advertise: "{FRONT}"}}
console: {{token: env:SLUICE_CONSOLE_TOKEN}}
"""

_BALANCER = """
global
  maxconn 1000
defaults
  mode http
  option forwardfor
  option redispatch
  retries 3
  timeout connect 1s
  timeout client 30s
  timeout server 30s
frontend front
  bind 10.77.0.10:8080
  default_backend gateways
backend gateways
  balance leastconn
  option httpchk GET /_sluice/healthz
  http-check expect status 200
  default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
"""


class Hosts:
    """`older`: the folder of an unpacked version before this one; each host runs what `runs` says, this one without."""

    def __init__(self, hosts: dict[str, Host], older: Path | None) -> None:
        self.at = hosts
        self._older = older
        self.policies: Policies
        self.client = httpx2.AsyncClient(base_url=FRONT, trust_env=False, timeout=10)

    async def start(self, gateways: Sequence[str] = GATEWAYS, *, older: bool = False) -> None:
        await self._store()
        await self.start_laravel()
        await asyncio.gather(*(self.start_gateway(name, older) for name in gateways))
        for name in WORKERS:
            await self.start_worker(name, older)
        await self._balancer()
        await until(self._has_both_workers, timeout=_STARTS_WITHIN, what=self.said)

    async def start_laravel(self) -> None:
        host = self.at["laravel"]
        await self._sluice(host, False, "demo-laravel", "--listen", f"{host.address}:8000", "--limit", "1000000")
        await until(lambda: answers(f"http://{host.address}:8000/ledger"), timeout=_STARTS_WITHIN, what=host.said)

    async def start_gateway(self, name: str, older: bool = False) -> None:
        """And the relay beside it, where there is one."""
        host = self.at[name]
        await self._sluice(host, older, "gateway")
        if name in RELAYS:
            await self._sluice(host, older, "relay")
        await until(lambda: answers(f"{self.url(name)}/_sluice/readyz"), timeout=_STARTS_WITHIN, what=host.said)

    async def start_worker(self, name: str, older: bool = False) -> None:
        """The version before has its workers beside a gateway; so it is told of one by its policies."""
        host = self.at[name]
        listen = ("--listen", f"{host.address}:{_WORKER}")
        where = () if older else ("--gateway", FRONT)
        await self._sluice(host, older, "worker", "--driver", "demo", "--name", name, *listen, *where)

    async def _sluice(self, host: Host, older: bool, *arguments: str) -> None:
        file = host.folder / "policies.yaml"
        listens = "10.77.0.10:8080" if arguments[0] == "worker" else "0.0.0.0:8080"
        file.write_text(_POLICIES.replace("0.0.0.0:8080", listens))
        self.policies = load(file, environment=SECRETS)
        version = self._older if older else ROOT
        assert version is not None
        command = (sys.executable, "-P", "-m", "sluice", *arguments, "--policies", str(file))
        await host.start(*command, environment={**SECRETS, "PYTHONPATH": str(version)})

    async def _store(self) -> None:
        host = self.at["store"]
        kept = ("--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", "")
        await host.start(find_server(), "--bind", host.address, "--protected-mode", "no", *kept)

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection(host.address, 6379)
            except OSError:
                return False
            writer.close()
            return True

        await until(listens, timeout=_STARTS_WITHIN, what=host.said)

    async def _balancer(self) -> None:
        host = self.at["balancer"]
        servers = (f"  server {name} {self.at[name].address}:8080\n" for name in GATEWAYS)
        settings = host.folder / "haproxy.cfg"
        settings.write_text(_BALANCER + "".join(servers))
        await host.start("haproxy", "-db", "-f", str(settings))
        await until(lambda: answers(f"{FRONT}/_sluice/readyz"), timeout=_STARTS_WITHIN, what=host.said)

    async def _has_both_workers(self) -> bool:
        return {row["worker"] for row in (await self.status())["workers"] if not row["lost"]} == set(WORKERS)

    def url(self, name: str) -> str:
        return f"http://{self.at[name].address}:8080"

    async def status(self) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {SECRETS['SLUICE_CONSOLE_TOKEN']}"}
        answer = await self.client.get("/_sluice/api/status", headers=headers)
        assert answer.status_code == 200, answer.text
        told: dict[str, object] = answer.json()
        return told

    async def owner(self, session: str) -> str | None:
        """The worker that answers for it; None: nobody yet."""
        try:
            answer = await self.client.get(f"/api/sessions/{session}/status")
        except httpx2.HTTPError:
            return None
        return answer.headers.get("x-demo-worker") if answer.status_code == 200 else None

    async def runs(self, worker: str) -> set[str]:
        """The sessions that it runs, as it says itself, on its own host."""
        text = await self.at[worker].run(
            "curl", "-s", "-m", "5", f"http://{self.at[worker].address}:{_WORKER}/api/sessions"
        )
        return {row["session_id"] for row in orjson.loads(text)["sessions"]}

    async def post(self, event: str, session: str, sequence: int) -> int:
        """One webhook, signed as a worker signs it; its status."""
        body = orjson.dumps({"event": event, "data": {"session_id": session, "sequence": sequence}})
        proof = [
            (name.decode(), value.decode())
            for name, value in sign(self.policies.signatures["workers"], body, time.time())
        ]
        headers = [("content-type", "application/json"), *proof]
        answer = await self.client.post("/api/whatsapp/webhooks/webjs", content=body, headers=headers)
        return answer.status_code

    async def arrived(self) -> list[tuple[str, int]]:
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            text = (await client.get(f"http://{self.at['laravel'].address}:8000/ledger/events")).text
        rows = (orjson.loads(line) for line in text.splitlines())
        return [(row["session"], row["sequence"]) for row in rows if row["sequence"] is not None]

    def said(self) -> str:
        return "\n".join(f"--- {host.name}\n{host.said()[-3000:]}" for host in self.at.values())


@asynccontextmanager
async def hosts(folder: Path, older: Path | None = None) -> AsyncIterator[Hosts]:
    async with network(folder, _HOSTS) as made:
        deployed = Hosts(made, older)
        try:
            yield deployed
        finally:
            await deployed.client.aclose()
