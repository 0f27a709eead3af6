"""A gateway among strangers who mean it harm, all at once, and what a well-behaved client notices of them.

    .venv/bin/python benchmarks/hostile.py
    .venv/bin/python benchmarks/hostile.py --seconds 10

Slow readers, slow writers, silent connections, a flood of pings, one of headers, and large bodies with a signature that
is made up (`hostility/attacks.py`), each from an address of its own. Meanwhile one client asks thirty times a second,
on connections that it keeps. The gateway has one core. The attackers have the other one, together with store, upstream
and client, which go first there. A bar that is missed makes the exit code 1: the client's p99 may be three times what
it is without attackers, or 50 ms, and the gateway's memory 300 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from hostility.attacks import ATTACKS, Done
from measured import Figure, tell
from memory import Memory
from proxy import report
from proxy.peers import ROOT, Site, answering, embedded_store
from proxy.processes import NotReady, cpu_seconds, free_port, started

from sluice.store import embedded

SECONDS = 60.0
_QUIET = 0.25
"""Of the seconds under attack as many without, before."""
_RATE = 30
_CLIENTS = 6
_TIMES, _AT_LEAST = 3.0, 0.050
_MOST_MB = 300.0
_ANSWERED_WITHIN = 10.0
_SAID_WITHIN = 120.0
"""By the attackers, who go last on their core."""
_FILES = 4096
_PIECE = 64 * 1024
_LARGE = 64 * 2**20
_SMALL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n" + b"x" * 64
_GET = b"GET /64 HTTP/1.1\r\nHost: shop.example\r\n\r\n"
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Felt:
    """By the client, in seconds from the moment that a request was due."""

    latencies: Sequence[float]
    failed: int

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


@dataclass(frozen=True, slots=True)
class Found:
    quiet: Felt
    attacked: Felt
    attacks: Mapping[str, Done]
    memory: Memory
    busy: float
    """The share of its core that the gateway had under attack."""
    seconds: float

    @property
    def bar(self) -> float:
        return max(_TIMES * self.quiet.quantile(0.99), _AT_LEAST)

    @property
    def met(self) -> bool:
        return self.attacked.quantile(0.99) <= self.bar and self.memory.peak <= _MOST_MB and not self.attacked.failed


def main() -> int:
    wishes = _parser().parse_args()
    if wishes.upstream:
        uvloop.run(_upstream(wishes.upstream))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that whoever was started is ended too
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        sys.stderr.write("there is one core only: the attackers take the gateway's own time\n")
    _raise_file_limit()
    try:
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            os.sched_setaffinity(0, {cores[-1]})
            found = _run(Path(folder), cores, wishes.seconds)
    except KeyboardInterrupt:
        return 130
    except (NotReady, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    sys.stdout.write(_table(found, report.about()))
    tell(_figures(found))
    return 0 if found.met else 1


def _figures(found: Found) -> Iterator[Figure]:
    quiet, attacked = (1000 * felt.quantile(0.99) for felt in (found.quiet, found.attacked))
    yield Figure("p99 of a well-behaved client, quiet", quiet, "ms")
    yield Figure.at_most("p99 of a well-behaved client, under attack", attacked, 1000 * found.bar, "ms")
    yield Figure.none_of("its requests that failed", found.attacked.failed)
    yield Figure.at_most("the gateway's memory", found.memory.peak, _MOST_MB, "MB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A gateway under attack; a Markdown table on standard output.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"under attack; default: {SECONDS:g}")
    parser.add_argument("--upstream", type=int, metavar="PORT", help=argparse.SUPPRESS)
    return parser


def _raise_file_limit() -> None:
    """For the attackers. The gateway sees to its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _run(folder: Path, cores: Sequence[int], seconds: float) -> Found:
    site = Site(folder, free_port(), free_port(), cores[0], cores[-1])
    command = [sys.executable, __file__, "--upstream", str(site.upstream)]
    with started(command, site.other_core, folder / "upstream.log", cwd=ROOT):
        answering(site.upstream, folder / "upstream.log")
        with _gateway(site) as pid:
            answering(site.port, folder / "log")
            _asked(site.port, 1.0)
            quiet = _asked(site.port, max(3.0, seconds * _QUIET))
            Memory.from_now_on(pid)
            began, before = time.perf_counter(), cpu_seconds(pid)
            with _attackers(site, seconds) as attacking:
                attacked = _asked(site.port, seconds)
                said, _ = attacking.communicate(timeout=_SAID_WITHIN)
            passed = time.perf_counter() - began
            busy = (cpu_seconds(pid) - before) / passed
            attacks = {name: Done(**done) for name, done in json.loads(said).items()}
            return Found(quiet, attacked, attacks, Memory.of(pid), busy, passed)


@contextmanager
def _attackers(site: Site, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "hostility.attacks", str(site.port), str(seconds)]
    process = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _gateway(site: Site) -> Iterator[int]:
    """As a person starts one, with what `sluice init` writes about limits and signatures. Its pid."""
    policies = site.folder / "policies.yaml"
    policies.write_text(
        f"""version: 1
listen: 127.0.0.1:{site.port}
data: {site.folder}/data
store: {{url: "{embedded.url(site.folder / "data")}", promise: second}}
trust: {{lists: {{laravel: [127.0.0.1/32]}}}}
upstreams:
  laravel: {{url: "http://127.0.0.1:{site.upstream}"}}
signatures:
  workers: {{preset: blazz, secret: env:SLUICE_BENCHMARK_SECRET}}
routes:
  - {{path: /hooks/*, methods: [POST], verify: workers, event: {{json: /event}}, relay: laravel}}
  - {{path: /**, upstream: laravel}}
limits:
  - {{id: address, per: [ip], rate: 3000/minute, burst: 500, except: [laravel]}}
relay: {{endpoints: {{laravel: {{url: "http://127.0.0.1:{site.upstream}", sign: workers}}}}}}
"""
    )
    command = [sys.executable, "-P", "-m", "sluice", "gateway", "--policies", str(policies)]
    secret = {"SLUICE_BENCHMARK_SECRET": "nobody-guesses-this-one"}
    with embedded_store(site), started(command, site.core, site.folder / "log", cwd=ROOT, env=secret) as process:
        yield process.pid


# --- the client who is measured


def _asked(port: int, seconds: float) -> Felt:
    return uvloop.run(_ask_for(port, seconds))


async def _ask_for(port: int, seconds: float) -> Felt:
    """An open loop: each request has its moment, however long those before it take."""
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    for _ in range(_CLIENTS):
        free.put_nowait(_Connection(port))
    latencies: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        connection = await free.get()
        try:
            async with asyncio.timeout(_ANSWERED_WITHIN):
                await connection.ask()
            latencies.append(time.perf_counter() - due)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            connection.close()
            failed += 1
        finally:
            free.put_nowait(connection)

    began = time.perf_counter()
    asking = []
    for n in range(int(seconds * _RATE)):
        due = began + n / _RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asking.append(asyncio.create_task(one(due)))
    await asyncio.gather(*asking)
    while not free.empty():
        free.get_nowait().close()
    return Felt(latencies, failed)


class _Connection:
    """Kept from one request to the next, and opened anew when it was closed meanwhile."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> None:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(_GET)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head[:80])
        await reader.readexactly(64)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


# --- the upstream, in a process of its own


async def _upstream(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=1024, limit=4 * _PIECE)
    await server.serve_forever()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /large "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _LARGE)
                for _ in range(_LARGE // _PIECE):
                    writer.write(bytes(_PIECE))
                    await writer.drain()
                continue
            if head.startswith(b"GET /socket "):
                key = _field(head, b"sec-websocket-key")
                accept = base64.b64encode(hashlib.sha1(key + _ACCEPT).digest())
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
                )
                while await reader.read(_PIECE):
                    pass
                return
            length = _field(head, b"content-length")
            if length:
                await reader.readexactly(int(length))
            writer.write(_SMALL)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass
    finally:
        writer.close()


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


# --- Markdown


def _table(found: Found, about: Mapping[str, object]) -> str:
    lines = [
        f"{about['machine']}. Commit {about['commit']}, {about['at']}, Python {sys.version.split()[0]}.",
        f"{found.seconds:.0f} s; the gateway had its core for {100 * found.busy:.0f} % of them.",
        "",
        "| all at once | connections | opened | answered | closed by the gateway | not accepted | MB sent |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ATTACKS:
        done = found.attacks[name]
        counts = (done.connections, done.opened, done.answered, done.cut, done.refused)
        lines.append(f"| {name} | {' | '.join(f'{n:,}' for n in counts)} | {done.sent / 1e6:,.0f} |")
    quiet, attacked = found.quiet, found.attacked
    lines += [
        "",
        "| a well-behaved client | quiet | under attack | at most | |",
        "|---|---:|---:|---:|---|",
        _line("p50", f"{_ms(quiet, 0.5)} ms", f"{_ms(attacked, 0.5)} ms"),
        _line(
            "p99",
            f"{_ms(quiet, 0.99)} ms",
            f"{_ms(attacked, 0.99)} ms",
            f"{1000 * found.bar:.0f} ms",
            met=attacked.quantile(0.99) <= found.bar,
        ),
        _line("longest", f"{_ms(quiet, 1.0)} ms", f"{_ms(attacked, 1.0)} ms"),
        _line("requests", f"{len(quiet.latencies):,}", f"{len(attacked.latencies):,}"),
        _line("failed", f"{quiet.failed}", f"{attacked.failed}", "0", met=not attacked.failed),
        _line(
            "gateway's memory",
            "",
            f"{found.memory.peak:.0f} MB",
            f"{_MOST_MB:.0f} MB",
            met=found.memory.peak <= _MOST_MB,
        ),
    ]
    return "\n".join(lines) + "\n"


def _line(what: str, quiet: str, attacked: str, bar: str = "", *, met: bool | None = None) -> str:
    verdict = "" if met is None else "met" if met else "**missed**"
    return f"| {what} | {quiet} | {attacked} | {bar} | {verdict} |"


def _ms(felt: Felt, share: float) -> str:
    return f"{1000 * felt.quantile(share):.1f}"


if __name__ == "__main__":
    sys.exit(main())
