"""The load: one process, one thread, one epoll, as little Python per request as there can be.

A task comes as JSON on standard input, the result goes as JSON to standard output. Two ways:

closed  every connection sends its next request when its answer is there: as fast as the other side can (saturation)
open    requests are due at a constant rate, whatever the other side does, and latency counts from the moment a
        request was due, also while it waited for a free connection (no coordinated omission)

No asyncio here: its timers have a resolution of a millisecond, which is more than what is measured; a timerfd has that
of the kernel. And a bare epoll costs half as much per request.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle, repeat

from proxy.processes import cpu_seconds

_BUFFER = 1 << 18
_SHORTEST_TICK = 50e-6  # seconds; requests due within a tick go together
_DRAIN = 2.0  # seconds for the last answers of an open loop
_NONBLOCKING = 0o4000
_MONOTONIC = 1


@dataclass(frozen=True, slots=True)
class Task:
    port: int
    path: str
    connections: int
    seconds: float
    warmup: float
    rate: float | None = None
    """Requests per second of an open loop; None: a closed one."""
    watch: dict[str, int] = field(default_factory=dict)
    """Process trees whose CPU time is taken at the start and the end of the measured time."""
    posts: str | None = None
    """A file of whole requests, each behind its length in a line, sent one after the other; None: GETs."""


@dataclass(frozen=True, slots=True)
class Result:
    answered: int
    failed: int
    seconds: float
    cpu: dict[str, float]
    p50: float | None = None
    p99: float | None = None
    p95: float | None = None
    """Milliseconds, open loop only."""
    unanswered: int = 0


class _Broken(Exception):
    """The connection was closed, or what came was not the answer."""


class _Connection:
    """One request at a time, and a reader that believes in Content-Length and in nothing else."""

    __slots__ = ("_buffer", "_left", "_port", "_requests", "due", "socket")

    def __init__(self, port: int, requests: Iterator[bytes], buffer: bytearray) -> None:
        self._port, self._requests, self._buffer = port, requests, buffer
        self._left = 0
        self.due = 0.0
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._left = 0

    def send(self) -> None:
        try:
            self.socket.send(next(self._requests))
        except OSError:
            return  # `receive` finds the connection closed, and counts that

    def receive(self) -> bool:
        """True when the answer is complete."""
        try:
            size = self.socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        if not size:
            raise _Broken
        self._left = (self._left or self._whole(size)) - size
        if self._left < 0:
            raise _Broken
        return self._left == 0

    def _whole(self, size: int) -> int:
        end = self._buffer.find(b"\r\n\r\n", 0, size)
        head = self._buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if end < 0 or at < 0 or head[9:11] != b"20":
            raise _Broken
        stop = head.find(b"\r\n", at + 2)
        return end + 4 + int(head[at + 17 : stop if stop > 0 else end])


def _requests(task: Task) -> Iterator[bytes]:
    if task.posts is not None:
        with open(task.posts, "rb") as file:
            return cycle([file.read(int(line)) for line in iter(file.readline, b"")])
    request = f"GET {task.path} HTTP/1.1\r\nHost: benchmark.test\r\nUser-Agent: sluice-benchmark\r\n"
    return repeat(f"{request}Accept: */*\r\n\r\n".encode())


class _Load:
    """The connections and what was counted on them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        requests = _requests(task)
        buffer = bytearray(_BUFFER)
        self.connections = [_Connection(task.port, requests, buffer) for _ in range(task.connections)]
        self.failed = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Connection] = {}
        for connection in self.connections:
            self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        self._by_fd[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN)

    def wait_also_for(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def answered(self, timeout: float) -> Iterator[_Connection]:
        """Connections whose answer is complete; a broken one is opened anew and counts as failed."""
        by_fd = self._by_fd
        for fd, _ in self._epoll.poll(timeout):
            connection = by_fd.get(fd)
            if connection is None:
                continue
            try:
                if connection.receive():
                    yield connection
            except (_Broken, OSError, ValueError):
                yield self._opened_anew(connection)

    def _opened_anew(self, connection: _Connection) -> _Connection:
        self.failed += 1
        del self._by_fd[connection.socket.fileno()]
        connection.socket.close()
        connection.open()
        self._watch(connection)
        return connection

    def costs(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._task.watch.items()}


class _Ticks:
    """A file descriptor that becomes readable every so often, to the microsecond."""

    def __init__(self, every: float) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.timerfd_create(_MONOTONIC, _NONBLOCKING)
        nanoseconds = int(max(every, _SHORTEST_TICK) * 1e9)
        period = divmod(nanoseconds, 1_000_000_000)
        if self.fd < 0 or libc.timerfd_settime(self.fd, 0, struct.pack("qqqq", *period, *period), None):
            raise OSError(ctypes.get_errno(), "timerfd")

    def clear(self) -> None:
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return


def closed(task: Task) -> Result:
    load = _Load(task)
    for connection in load.connections:
        connection.send()
    _keep_sending(load, task.warmup)
    before, began, failed = load.costs(), time.perf_counter(), load.failed
    answered = _keep_sending(load, task.seconds)
    seconds, after = time.perf_counter() - began, load.costs()
    failed = load.failed - failed
    return Result(answered - failed, failed, seconds, _difference(before, after))


def _keep_sending(load: _Load, seconds: float) -> int:
    until, answered = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        for connection in load.answered(0.1):
            answered += 1
            connection.send()
    return answered


def open_loop(task: Task) -> Result:
    return _OpenLoop(task).run()


class _OpenLoop:
    def __init__(self, task: Task) -> None:
        self._load = _Load(task)
        self._task = task
        self._every = 1 / (task.rate or 1.0)
        self._ticks = _Ticks(self._every)
        self._load.wait_also_for(self._ticks.fd)
        self._free = deque(self._load.connections)
        self._waiting: deque[float] = deque()
        self._next = 0.0
        self._latencies = array("d")

    def run(self) -> Result:
        load = self._load
        began = time.perf_counter() + self._task.warmup
        self._next = time.perf_counter()
        self._turn_until(began, began)
        before, failed = load.costs(), load.failed
        end = began + self._task.seconds
        self._turn_until(end, began)
        after, answered = load.costs(), len(self._latencies)
        failed = load.failed - failed
        self._next = end + 3600  # nothing is due any more; only the answers are waited for
        self._drain(end + _DRAIN, began)
        unanswered = len(self._waiting) + self._task.connections - len(self._free)
        found = sorted(self._latencies)
        p50, p95, p99 = (_at(found, share) for share in (0.5, 0.95, 0.99))
        cost = _difference(before, after)
        return Result(answered - failed, failed, self._task.seconds, cost, p50, p99, p95, unanswered)

    def _turn_until(self, end: float, began: float) -> None:
        while time.perf_counter() < end:
            self._turn(end, began)

    def _drain(self, end: float, began: float) -> None:
        while time.perf_counter() < end and len(self._free) < self._task.connections:
            self._turn(end, began)

    def _turn(self, end: float, began: float) -> None:
        for connection in self._load.answered(0.1):
            if connection.due >= began:
                self._latencies.append(time.perf_counter() - connection.due)
            if self._waiting:
                self._send(connection, self._waiting.popleft())
            else:
                self._free.append(connection)
        self._ticks.clear()
        now = min(time.perf_counter(), end)
        while self._next <= now:
            if self._free:
                self._send(self._free.popleft(), self._next)
            else:
                self._waiting.append(self._next)
            self._next += self._every

    @staticmethod
    def _send(connection: _Connection, due: float) -> None:
        connection.due = due
        connection.send()


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else None


def _difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in before}


if __name__ == "__main__":
    wish = Task(**json.load(sys.stdin))
    json.dump(asdict(closed(wish) if wish.rate is None else open_loop(wish)), sys.stdout)
