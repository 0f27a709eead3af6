"""The gateway's memory: with many idle connections, with large bodies, and after many requests.

    .venv/bin/python benchmarks/memory.py
    .venv/bin/python benchmarks/memory.py --json raw.json > table.md

Each step has a gateway of its own, started as a user starts it, with the embedded store and three limits; what an
earlier step freed would hide what a later one needs. Its memory is what the kernel tells of the process
(`/proc/<pid>/status`): VmRSS, and VmHWM for the peak of a step. A bar that is missed makes the exit code 1.

Where a body goes to somebody slow, that one reads it in bursts and has small socket buffers, so that what the gateway
does not hold back it would have to keep.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from measured import Figure, tell
from proxy import report
from proxy.peers import ROOT, Site, answering, peers
from proxy.processes import NotReady, free_port, started

_AT_MOST = 230.0  # seconds for all of it
_PATIENCE = 30.0  # seconds for one piece of one answer
_IDLE = 10_000
_SOURCES = 5  # addresses the idle connections come from: one has some 28,000 ports, not all of them free
_SPARE_FILES = 500
_BODY = 1 << 30
_PIECE = 1 << 20
_BURST = 8 << 20
_PAUSE = 0.03  # seconds between two bursts
_SMALL_BUFFER = 64 << 10
_REQUESTS = 100_000
_CONNECTIONS = 64
_SETTLED = 0.3  # seconds after a step before its memory is read
_END_OF_HEAD = b"\r\n\r\n"
_GET = b"GET /small HTTP/1.1\r\nHost: benchmark.test\r\n\r\n"
_SMALL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n" + b"x" * 64


@dataclass(frozen=True, slots=True)
class Row:
    step: str
    what: str
    bar_mb: float
    mb: float
    before_mb: float
    after_mb: float
    peak_mb: float
    seconds: float

    @property
    def met(self) -> bool:
        return self.mb <= self.bar_mb


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MB (a million bytes)."""

    rss: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        told = dict(line.split(":", 1) for line in lines)
        return cls(_megabytes(told["VmRSS"]), _megabytes(told["VmHWM"]))

    @classmethod
    def from_now_on(cls, pid: int) -> Memory:
        """The peak starts anew."""
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        return cls.of(pid)


def _megabytes(field: str) -> float:
    return int(field.split()[0]) * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Gateway:
    port: int
    pid: int

    def memory(self) -> Memory:
        time.sleep(_SETTLED)
        return Memory.of(self.pid)

    def idle(self) -> Memory:
        """Once it has answered a few: what is made at first use is there."""
        with _connected(self.port, 8) as connections:
            for _ in range(25):
                _ask_all(connections)
        time.sleep(_SETTLED)
        return Memory.from_now_on(self.pid)


def main() -> int:
    wishes = _parser().parse_args()
    if wishes.upstream:
        uvloop.run(_upstream(wishes.upstream))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that gateway and upstream are ended too
    signal.signal(signal.SIGALRM, _too_late)
    signal.setitimer(signal.ITIMER_REAL, _AT_MOST)
    try:
        _raise_file_limit(_IDLE + _SPARE_FILES)
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            rows = _run(Path(folder))
    except KeyboardInterrupt:
        return 130
    except (NotReady, OSError) as error:
        _say(f"{type(error).__name__}: {error}")
        return 2
    about = report.about()
    sys.stdout.write(_table(rows, about))
    if wishes.json:
        where = {name: about[name] for name in ("machine", "versions", "commit", "at")}
        told = where | {"rows": [asdict(row) | {"met": row.met} for row in rows]}
        wishes.json.write_text(json.dumps(told, indent=1) + "\n")
    tell(Figure.at_most(f"{row.step}: {row.what}", row.mb, row.bar_mb, "MB") for row in rows)
    return 0 if all(row.met for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The gateway's memory; a Markdown table on standard output.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw rows go")
    parser.add_argument("--upstream", type=int, metavar="PORT", help=argparse.SUPPRESS)
    return parser


def _too_late(*_: object) -> None:
    raise NotReady(f"it took longer than {_AT_MOST:g} seconds")


def _raise_file_limit(wanted: int) -> None:
    """For us and whom we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise NotReady(f"{wanted} open files are needed, at most {hard} are allowed (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


Step = Callable[[Gateway], Row]


def _run(folder: Path) -> list[Row]:
    steps: dict[str, Step] = {
        "idle": _idle_connections,
        "upload": lambda gateway: _upload(gateway, chunked=False),
        "upload-chunked": lambda gateway: _upload(gateway, chunked=True),
        "download": lambda gateway: _download(gateway, chunked=False),
        "download-chunked": lambda gateway: _download(gateway, chunked=True),
        "requests": _many_requests,
    }
    rows: list[Row] = []
    cores = sorted(os.sched_getaffinity(0))
    upstream = free_port()
    command = [sys.executable, __file__, "--upstream", str(upstream)]
    with started(command, cores[-1], folder / "upstream.log", cwd=ROOT):
        answering(upstream, folder / "upstream.log")
        for name, step in steps.items():
            (folder / name).mkdir()
            with _gateway(Site(folder / name, upstream, free_port(), cores[0], cores[-1])) as gateway:
                rows.append(step(gateway))
            _say(f"{rows[-1].step}: {rows[-1].mb:.1f} MB, {rows[-1].seconds:.0f} s")
    return rows


@contextmanager
def _gateway(site: Site) -> Iterator[Gateway]:
    sluice = next(peer for peer in peers() if peer.name == "sluice-3-buckets")
    with sluice.start(site) as running:
        answering(running.port, site.folder / "log")
        yield Gateway(running.port, running.pid)


# --- the steps


def _idle_connections(gateway: Gateway) -> Row:
    before, began = gateway.idle(), time.perf_counter()
    with _connected(gateway.port, _IDLE) as connections:
        for connection in connections:
            _ask_all([connection])
        seconds = time.perf_counter() - began
        after = gateway.memory()
        lost = _lost(connections)
    if lost:
        raise NotReady(f"{lost} of {_IDLE} connections did not stay open")
    what = f"peak; {(after.rss - before.rss) / _IDLE * 1000:.1f} kB for each"
    step = f"{_IDLE:,} idle keep-alive connections, each after one request"
    return Row(step, what, 600, after.peak, before.rss, after.rss, after.peak, seconds)


def _upload(gateway: Gateway, *, chunked: bool) -> Row:
    before, began = gateway.idle(), time.perf_counter()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % _BODY
    piece = bytes(_PIECE)
    sent = b"%x\r\n%b\r\n" % (_PIECE, piece) if chunked else piece
    with _connected(gateway.port, 1) as (connection,):
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: benchmark.test\r\n" + framing + _END_OF_HEAD)
        for _ in range(_BODY // _PIECE):
            connection.sendall(sent)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        counted = _answer(connection)
    if int(counted) != _BODY:
        raise NotReady(f"the upstream got {int(counted):,} bytes of {_BODY:,}")
    return _body_row("upload", chunked, gateway, before, began)


def _download(gateway: Gateway, *, chunked: bool) -> Row:
    before, began = gateway.idle(), time.perf_counter()
    path = b"/download-chunked" if chunked else b"/download"
    with _connected(gateway.port, 1, small=True) as (connection,):
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: benchmark.test\r\nConnection: close\r\n\r\n" % path)
        counted = _read_in_bursts(connection)
    if counted < _BODY:
        raise NotReady(f"the client got {counted:,} bytes of {_BODY:,}")
    return _body_row("download", chunked, gateway, before, began)


def _body_row(way: str, chunked: bool, gateway: Gateway, before: Memory, began: float) -> Row:
    seconds = time.perf_counter() - began
    after = gateway.memory()
    framing = "chunked" if chunked else "Content-Length"
    step = f"{_BODY >> 30} GiB {way}, {framing}, to a slow {'upstream' if way == 'upload' else 'client'}"
    return Row(step, "peak over idle", 40, after.peak - before.rss, before.rss, after.rss, after.peak, seconds)


def _many_requests(gateway: Gateway) -> Row:
    before, began = gateway.idle(), time.perf_counter()
    with _connected(gateway.port, _CONNECTIONS) as connections:
        first = _after_requests(gateway, connections)
        second = _after_requests(gateway, connections)
    seconds = time.perf_counter() - began
    step = f"{2 * _REQUESTS:,} requests over {_CONNECTIONS} connections"
    what = f"second {_REQUESTS:,} over the first"
    return Row(step, what, 2, second.rss - first.rss, before.rss, second.rss, second.peak, seconds)


def _after_requests(gateway: Gateway, connections: Sequence[socket.socket]) -> Memory:
    for _ in range(-(-_REQUESTS // len(connections))):
        _ask_all(connections)
    return gateway.memory()


# --- the client


@contextmanager
def _connected(port: int, count: int, *, small: bool = False) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made: list[socket.socket] = []
        for number in range(count):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(_PATIENCE)
            if small:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
            connection.bind((f"127.0.0.{1 + number % _SOURCES}", 0))
            connection.connect(("127.0.0.1", port))
            made.append(connection)
        yield made


def _ask_all(connections: Sequence[socket.socket]) -> None:
    """A request on each at once, then the answer of each."""
    for connection in connections:
        connection.sendall(_GET)
    for connection in connections:
        _answer(connection)


def _answer(connection: socket.socket) -> bytes:
    """The body of an answer with a Content-Length."""
    got = b""
    while True:
        data = connection.recv(_SMALL_BUFFER)
        got += data
        head, end, body = got.partition(_END_OF_HEAD)
        if end and len(body) == _length(head):
            if not head.startswith(b"HTTP/1.1 200 "):
                raise NotReady(f"the gateway answered {head[:80]!r}")
            return body
        if not data:
            raise NotReady(f"the gateway broke off after {got[:80]!r}")


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)


def _read_in_bursts(connection: socket.socket) -> int:
    """Until it is closed: the bytes of head, body and chunks."""
    buffer = bytearray(_PIECE)
    counted = burst = 0
    while size := connection.recv_into(buffer):
        counted += size
        burst += size
        if burst >= _BURST:
            burst = 0
            time.sleep(_PAUSE)
    return counted


def _lost(connections: Sequence[socket.socket]) -> int:
    """How many are closed, or have something to say that nobody asked."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(0))


# --- the upstream, in a process of its own


async def _upstream(port: int) -> None:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)  # of those it accepts
    listening.bind(("127.0.0.1", port))
    server = await asyncio.start_server(_serve, sock=listening, limit=_PIECE, backlog=1024)
    await server.serve_forever()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(_END_OF_HEAD)
            path = head.split(b" ", 2)[1]
            if path == b"/upload":
                said = b"%d" % await _read_body(reader, head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
            elif path.startswith(b"/download"):
                await _send_body(writer, chunked=path.endswith(b"chunked"))
            else:
                writer.write(_SMALL)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> int:
    """In bursts. How many bytes there were."""
    counted = burst = 0
    chunked = b"\r\ntransfer-encoding: chunked" in head.lower()
    left = 0 if chunked else _length(head)
    while True:
        if chunked and not left:
            left = int(await reader.readuntil(b"\r\n"), 16)
            await reader.readexactly(0 if left else 2)
        if not left:
            return counted
        data = await reader.read(min(left, _PIECE))
        if not data:
            raise ConnectionResetError
        left -= len(data)
        counted += len(data)
        burst += len(data)
        if chunked and not left:
            await reader.readexactly(2)
        if burst >= _BURST:
            burst = 0
            await asyncio.sleep(_PAUSE)


async def _send_body(writer: asyncio.StreamWriter, *, chunked: bool) -> None:
    piece = bytes(_PIECE)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % _BODY
    writer.write(b"HTTP/1.1 200 OK\r\n" + framing + _END_OF_HEAD)
    for _ in range(_BODY // _PIECE):
        writer.write(b"%x\r\n%b\r\n" % (_PIECE, piece) if chunked else piece)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")


# --- Markdown


def _table(rows: Sequence[Row], about: dict[str, object]) -> str:
    head = [
        f"{about['machine']}. Commit {about['commit']}, {about['at']}, Python {sys.version.split()[0]}.",
        "The gateway process with the embedded store and three limits; MB of a million bytes.",
        "",
        "| | bar MB | result MB | | idle before | after | peak | seconds | |",
        "|---|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    return "\n".join([*head, *map(_line, rows)]) + "\n"


def _line(row: Row) -> str:
    met = "met" if row.met else "**missed**"
    numbers = f"{row.before_mb:.1f} | {row.after_mb:.1f} | {row.peak_mb:.1f} | {row.seconds:.0f}"
    return f"| {row.step} | {row.bar_mb:g} | {row.mb:.1f} | {row.what} | {numbers} | {met} |"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
