"""From the moment an event is sent to its arrival: idle, and beside what is stuck."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from relaying.accepted import post
from relaying.receiver import STUCK, Counts
from relaying.site import Site, site

EVERY = 0.05
HEALTHY, RATE = 200, 500.0
_STUCK_SESSIONS, _HANGING = 1000, 500
_NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float
    events: int


def idle(folder: Path, events: int) -> Latency:
    """One event at a time, both processes on one core, store and receiver on the other."""
    with site(folder) as there, there.process("gateway"), there.process("relay"):
        _warmed_up(there, 20, EVERY)
        return _latency(_measured(there, events, EVERY))


def beside(folder: Path, events: int, stuck: bool) -> Latency:
    """200 sessions at 500 events a second; `stuck`: beside an endpoint that hangs and 1,000 sessions whose first
    event fails for ever."""
    with site(folder, minimum=_NEVER) as there, ExitStack() as stack:
        if stuck:
            there.fill(_STUCK_SESSIONS * 2, sessions=_STUCK_SESSIONS, first=STUCK)
            there.fill(_HANGING, endpoint="hangs", sessions=_HANGING)
        for kind in ("gateway", "relay"):
            stack.enter_context(there.process(kind))
        if stuck:
            _until_each_failed_and_hangs(there)
        _warmed_up(there, int(RATE), 1 / RATE)
        return _latency(_measured(there, events, 1 / RATE))


def _until_each_failed_and_hangs(there: Site) -> None:
    deadline = time.monotonic() + 30
    while (counts := there.receiver.counts()).failed < _STUCK_SESSIONS or not counts.hung:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not stuck: {counts}")
        time.sleep(0.05)


def _warmed_up(there: Site, events: int, every: float) -> None:
    """All of them have arrived, so that none is counted with those that are measured."""
    before = there.receiver.counts().received
    _send(there, events, every)
    _received(there, before + events)


def _measured(there: Site, events: int, every: float) -> Counts:
    there.receiver.forget()
    _send(there, events, every)
    return _received(there, events)


def _received(there: Site, events: int) -> Counts:
    """Once so many have arrived, or ten seconds later."""
    deadline = time.monotonic() + 10
    while (counts := there.receiver.counts()).received < events and time.monotonic() < deadline:
        time.sleep(0.05)
    return counts


def _latency(counts: Counts) -> Latency:
    return Latency(counts.p50, counts.p99, counts.received)


_sent = 0


def _send(there: Site, events: int, every: float) -> None:
    """On one connection, each when it is due; answers are read beside it and thrown away."""
    global _sent
    with socket.create_connection(("127.0.0.1", there.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = threading.Thread(target=_drain, args=(connection, events))
        reader.start()
        due = time.monotonic()
        for _ in range(events):
            time.sleep(max(0.0, due - time.monotonic()))
            connection.sendall(post(there, _sent % HEALTHY, _sent))
            _sent += 1
            due += every
        reader.join()


def _drain(connection: socket.socket, answers: int) -> None:
    connection.settimeout(10)
    seen = 0
    held = b""
    while seen < answers:
        held += connection.recv(1 << 16)
        seen += held.count(b"HTTP/1.1 202")
        held = held[-11:] if not held.endswith(b"HTTP/1.1 202") else b""
