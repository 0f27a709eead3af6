"""Two checkouts side by side, each with its own store, gateway, relay and receiver."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from limiting.store import Cores, store
from measured import Figure, tell
from proxy.processes import NotReady, cpu_seconds, free_port, started, tail
from relaying.body import body
from relaying.site import Receiver, receiving

from sluice.config import Secret, Signature
from sluice.http.signatures import proof_of

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET = "the-secret-of-the-benchmark"
CONNECTIONS = 16
READY_WITHIN = 20.0
DELIVERED_WITHIN = 60.0
KINDS = ("proxied request", "proxied request, three buckets", "accepted webhook", "delivery")

POLICIES = """
version: 1
listen: 127.0.0.1:{port}
data: {folder}
store: {{url: "{store}", promise: second}}
trust: {{lists: {{office: [10.0.0.0/8]}}}}
upstreams: {{web: {{url: "http://127.0.0.1:{upstream}"}}}}
signatures: {{workers: {{preset: blazz, secret: env:BENCHMARK_SECRET}}}}
routes:
  - path: /api/webhooks
    methods: [POST]
    verify: workers
    event: {{json: /event}}
    session: {{json: /data/session_id}}
    relay: laravel
  - {{path: "/limited/{{session}}", event: read, upstream: web}}
  - {{path: /**, upstream: web}}
limits:
  - {{id: a, event: read, per: [session], rate: 1000000/second, burst: 1000000, over: reject}}
  - {{id: b, event: read, per: [ip], rate: 1000000/second, burst: 2000000, over: reject, except: [office]}}
  - {{id: c, event: read, per: [], rate: 1000000/second, burst: 3000000, over: reject}}
  - {{id: message, event: message_received, per: [session], rate: 1000000/second, burst: 1000000, over: queue}}
relay:
  backlog: {{bytes: 8GiB, events: 4000000}}
  endpoints: {{laravel: {{url: "http://127.0.0.1:{receiver}/ok", sign: workers, concurrency: 50}}}}
"""


class Upstream(asyncio.Protocol):
    """Answers each head with 64 bytes."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n" + b"x" * 64

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.ANSWER * data.count(b"\r\n\r\n"))


@dataclass(frozen=True, slots=True)
class Side:
    name: str
    port: int
    gateway: int
    relay: int
    receiver: Receiver


@dataclass(slots=True)
class Costs:
    """Microseconds of CPU for one, by kind, a value for each round."""

    micros: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


@contextmanager
def running(name: str, checkout: Path, folder: Path, cores: Cores, upstream: int) -> Iterator[Side]:
    folder.mkdir()
    environment = {"BENCHMARK_SECRET": SECRET, "SLUICE_LOGS": str(folder / "logs"), "PYTHONPATH": str(checkout)}
    module = "sluice" if (checkout / "sluice" / "__main__.py").exists() else "cli.main"
    with ExitStack() as stack:
        server = stack.enter_context(store(folder / "store", cores.store))
        receiver = stack.enter_context(receiving(cores.store))
        port, file = free_port(), folder / "policies.yaml"
        known = {"port": port, "folder": folder / "data", "store": server.url, "receiver": receiver.port}
        file.write_text(POLICIES.format(**known, upstream=upstream))
        pids = []
        for kind in ("gateway", "relay"):
            command = [sys.executable, "-m", module, kind, "--policies", str(file)]
            log = folder / f"{kind}.log"
            process = stack.enter_context(started(command, cores.process, log, cwd=checkout, env=environment))
            _wait_until_started(process, folder / "logs" / f"{kind}.jsonl", log)
            pids.append(process.pid)
        yield Side(name, port, *pids, receiver)


def _wait_until_started(process: subprocess.Popen[bytes], lines: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not (lines.exists() and b".started" in lines.read_bytes()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotReady(f"it did not start: {tail(log)}")
        time.sleep(0.05)


async def load(port: int, requests: Sequence[bytes], expected: bytes) -> None:
    """Sends them over 16 connections, each when the one before it is answered."""
    waiting = iter(requests)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(expected):
                raise NotReady(f"answered {head[:200]!r}")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: sluice\r\nAccept: */*\r\nUser-Agent: cost\r\n\r\n".encode()


def webhook(session: int, sequence: int) -> bytes:
    content = body(session, sequence)
    signed = proof_of(Signature("workers", "blazz", Secret(SECRET.encode()), 300.0)).sign(content, time.time(), b"")
    fields = b"".join(b"%b: %b\r\n" % pair for pair in signed)
    about = b"Host: sluice\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(content)
    return b"POST /api/webhooks HTTP/1.1\r\n" + about + fields + b"\r\n" + content


async def measure(side: Side, count: int, costs: Costs, round_: int) -> None:
    for kind, path in zip(KINDS[:2], ("/plain", "/limited/s"), strict=True):
        before = cpu_seconds(side.gateway)
        await load(side.port, [get(f"{path}{n % 100}") for n in range(count)], b"HTTP/1.1 200")
        costs.micros[kind].append((cpu_seconds(side.gateway) - before) / count * 1e6)
    taken = side.receiver.counts().received
    events = [webhook(n % 500, round_ * count + n // 500) for n in range(count)]
    gateway, relay = cpu_seconds(side.gateway), cpu_seconds(side.relay)
    await load(side.port, events, b"HTTP/1.1 202")
    costs.micros[KINDS[2]].append((cpu_seconds(side.gateway) - gateway) / count * 1e6)
    deadline = time.monotonic() + DELIVERED_WITHIN
    while side.receiver.counts().received < taken + count:
        if time.monotonic() > deadline:
            raise NotReady(f"{side.name} has delivered {side.receiver.counts().received - taken} of {count}")
        await asyncio.sleep(0.02)
    costs.micros[KINDS[3]].append((cpu_seconds(side.relay) - relay) / count * 1e6)


async def run(against: Path, rounds: int, count: int) -> dict[str, Costs]:
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, {cores.store})
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    found = {"this": Costs(), "other": Costs()}
    with tempfile.TemporaryDirectory(prefix="sluice-cost-") as folder, ExitStack() as stack:
        sides = [
            stack.enter_context(running(name, checkout, Path(folder) / name, cores, upstream))
            for name, checkout in (("this", ROOT), ("other", against.resolve()))
        ]
        for side in sides:
            await measure(side, count // 4, Costs(), 1000)  # warm
        for round_ in range(rounds):
            for side in sides if round_ % 2 else sides[::-1]:
                await measure(side, count, found[side.name], round_)
            sys.stderr.write(f"round {round_ + 1} of {rounds}\n")
    server.close()
    return found


def table(found: dict[str, Costs]) -> Iterator[str]:
    yield "| CPU, microseconds | this | other | ratio | rounds |"
    yield "|---|---:|---:|---:|---|"
    for kind in KINDS:
        this, other = found["this"].micros[kind], found["other"].micros[kind]
        ratios = sorted(a / b for a, b in zip(this, other, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        yield (
            f"| {kind} | {statistics.median(this):.1f} | {statistics.median(other):.1f} | "
            f"{statistics.median(ratios):.3f} | {spread} |"
        )


def _figures(found: dict[str, Costs]) -> Iterator[Figure]:
    for kind in KINDS:
        this, other = found["this"].micros[kind], found["other"].micros[kind]
        yield Figure(f"{kind}, CPU", statistics.median(this), "µs")
        ratio = statistics.median(a / b for a, b in zip(this, other, strict=True))
        yield Figure.at_most(f"{kind}, CPU, times that of the other checkout", ratio, 1.05)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="What a request, a webhook and a delivery cost, beside another checkout."
    )
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=4000, help="of each kind in a slice")
    options = parser.parse_args()
    found = asyncio.run(run(options.against, options.rounds, options.count))
    sys.stdout.write("\n".join(table(found)) + "\n")
    worst = max(
        statistics.median(a / b for a, b in zip(found["this"].micros[kind], found["other"].micros[kind], strict=True))
        for kind in KINDS
    )
    tell(_figures(found))
    sys.stdout.write(f"\nworst median ratio {worst:.3f}; at most 1.05 wanted\n")
    return worst > 1.05
