"""Three predictions of the simulation beside what really happens here, in some three minutes.

knee      how many events a second a relay delivers to a receiver that takes 250 ms, in 64 places: from there on the
          backlog grows; and how long an event takes at 0.7 of it
drain     how long a backlog takes to drain that has grown while the relay was away, by what an attempt took in `knee`
failover  until when each of 300 sessions has another owner, when one of three workers is lost
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from urllib.request import urlopen

from limiting.store import Cores, store
from measured import Figure, tell
from proxy.processes import free_port
from relaying.accepted import post
from relaying.site import _POLICIES, SECRET, Receiver, Site

from gateway.policies import load
from sessions.registry import Registry, Report, Worker
from simulating.costs import Costs
from simulating.engine import share
from simulating.flow import Situation, flow, knee
from simulating.region import Loss, recover
from sluice.store.client import Store

RECEIVER, PLACES, SESSIONS = 0.25, 64, 1000
KNEE_SECONDS, LATENCY_SECONDS, AWAY, COMING = 15.0, 15.0, 5.0, 35.0
LEASE, LOST = 3.0, 300
_LONGEST = 120.0
_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Compared:
    what: str
    predicted: float
    measured: float
    unit: str
    within: float
    """Of the prediction; 0: it is told, and bound by nothing."""

    @property
    def holds(self) -> bool:
        return not self.within or abs(self.measured - self.predicted) <= self.within * self.predicted

    def figure(self) -> Figure:
        wanted = f"{self.predicted:.4g} predicted" + (f", within {self.within:.0%}" if self.within else "")
        return Figure(self.what, self.measured, self.unit, wanted, self.holds if self.within else None)


def main(seed: int, file: Path | None) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = list(_knee(Path(folder) / "knee", seed))
        # What is to spare is the difference of two numbers: so the drain goes by what an attempt has just taken here.
        found += _drain(Path(folder) / "drain", seed, RECEIVER * found[0].predicted / found[0].measured)
        found += _failover(Path(folder) / "failover", seed)
    print("| | predicted | measured | off by | at most |\n|---|---:|---:|---:|---|")
    for one in found:
        off = one.measured / one.predicted - 1
        most = f"{one.within:.0%}{'' if one.holds else ', missed'}" if one.within else ""
        print(f"| {one.what} | {one.predicted:.4g} {one.unit} | {one.measured:.4g} {one.unit} | {off:+.0%} | {most} |")
    print(f"\nseed {seed}, {time.monotonic() - began:.0f} s, load average {os.getloadavg()[0]:.1f}")
    tell(one.figure() for one in found)
    if file:
        file.write_text(json.dumps([asdict(one) for one in found], indent=1))
    return 0 if all(one.holds for one in found) else 1


def _knee(folder: Path, seed: int) -> Iterator[Compared]:
    given = Situation(1.0, KNEE_SECONDS, RECEIVER, PLACES, SESSIONS, seed=seed)
    most = knee(given, Costs())
    with _site(folder) as there:
        there.fill(round(most * KNEE_SECONDS), sessions=SESSIONS)
        with there.process("relay"):
            done = sorted(end for _, end in _times(there, round(most * KNEE_SECONDS)))
            first, last = len(done) // 10, len(done) * 9 // 10
            yield Compared(
                "the backlog grows from", most, (last - first) / (done[last] - done[first]), "events/s", 0.15
            )
            rate = 0.7 * most
            with there.process("gateway"):
                sent = _send(there, rate, LATENCY_SECONDS, seed)
                times = _times(there, len(done) + sent)[len(done) :]
    latencies = sorted(end - begin for begin, end in times)
    predicted = flow(replace(given, rate=rate, seconds=LATENCY_SECONDS), Costs())
    yield Compared("at 0.7 of that, p50", predicted.p50 * 1000, share(latencies, 0.5) * 1000, "ms", 0.25)
    yield Compared("at 0.7 of that, p99", predicted.p99 * 1000, share(latencies, 0.99) * 1000, "ms", 0.0)


def _drain(folder: Path, seed: int, attempt: float) -> Iterator[Compared]:
    """`attempt`: seconds that one takes."""
    given = Situation(0.4 * PLACES / RECEIVER, COMING, attempt, PLACES, SESSIONS, seed=seed)
    with _site(folder) as there, there.process("gateway"):
        sending = threading.Thread(target=_send, args=(there, given.rate, COMING, seed))
        began = time.time()
        sending.start()
        time.sleep(AWAY)
        with there.process("relay"):
            sending.join()
            times = _times(there, None)
    first = min(end for _, end in times) - attempt
    away = first - began  # until the relay had started
    predicted = flow(replace(given, away=(0.0, away)), Costs())
    yield Compared(f"drained after {away:.1f} s away", predicted.drained_at - away, _drained(times) - first, "s", 0.25)
    growing = sum(begin <= first for begin, _ in times) / away
    yield Compared("meanwhile it grew by", given.rate, growing, "events/s", 0.15)


def _drained(times: list[tuple[float, float]]) -> float:
    """When no more were inside than there are places."""
    moments = sorted([(begin, 1) for begin, _ in times] + [(end, -1) for _, end in times])
    first, inside = min(end for _, end in times), 0
    for moment, change in moments:
        inside += change
        if moment > first and inside <= PLACES:
            return moment
    return moments[-1][0]


def _send(there: Site, rate: float, seconds: float, seed: int) -> int:
    """Webhooks at random moments, each when it is due, on some connections in turn; how many. All are answered."""
    random, due, number = Random(seed), 0.0, 0
    connections = [socket.create_connection(("127.0.0.1", there.port)) for _ in range(_CONNECTIONS)]
    began = time.monotonic()
    while (due := due + random.expovariate(rate)) <= seconds:
        time.sleep(max(0.0, began + due - time.monotonic()))
        connections[number % _CONNECTIONS].sendall(post(there, random.randrange(SESSIONS), number))
        number += 1
    for index, connection in enumerate(connections):
        _read(connection, len(range(index, number, _CONNECTIONS)))
        connection.close()
    return number


def _read(connection: socket.socket, answers: int) -> None:
    """They are short enough to wait in the connection until then."""
    connection.settimeout(_LONGEST)
    content = b""
    while content.count(b"HTTP/1.1 202") < answers:
        received = connection.recv(1 << 16)
        if not received:
            raise ConnectionError(f"{content.count(b'HTTP/1.1 202')} of {answers} webhooks were accepted")
        content += received


def _times(there: Site, events: int | None) -> list[tuple[float, float]]:
    """When each event was sent and done, in the order in which they came; without a number, once no more come."""
    deadline, before = time.monotonic() + _LONGEST, -1
    while True:
        with urlopen(f"http://127.0.0.1:{there.receiver.port}/times", timeout=10) as answer:
            times = [(begin, end) for begin, end in json.load(answer)]
        if (events is None and len(times) == before > 0) or (events is not None and len(times) >= events):
            return times
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(times)} of {events} events were delivered")
        before = len(times)
        time.sleep(2.0)


@contextmanager
def _site(folder: Path) -> Iterator[Site]:
    folder.mkdir()
    cores = Cores.of_this_machine()
    command = ["taskset", "-c", str(cores.store), sys.executable, "-m", "simulating.receiver", str(RECEIVER)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with store(folder / "store", cores.store) as server:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            receiver = Receiver(int(process.stdout.readline()), process.pid)
            known = {"port": free_port(), "folder": folder / "data", "store": server.url, "receiver": receiver.port}
            file = folder / "policies.yaml"
            text = _POLICIES.format(**known, concurrency=PLACES, minimum=10)
            file.write_text(f"{text}sessions: {{lease: {LEASE:.0f}s}}\n")
            yield Site(folder, cores, server, receiver, load(file, environment={"BENCHMARK_SECRET": SECRET}))
        finally:
            process.kill()
            process.communicate()


def _failover(folder: Path, seed: int) -> Iterator[Compared]:
    loss = Loss(workers=3, lost=1, each=LOST, gateways=1, lease=LEASE, seed=seed)
    with _site(folder) as there, there.process("gateway"):
        seconds = asyncio.run(_lose_one(there, Random(seed).random()))
    yield Compared(
        f"{LOST} sessions of a lost worker have an owner after", recover(loss, Costs()).granted, seconds, "s", 0.25
    )


async def _lose_one(there: Site, when: float) -> float:
    """From the loss of a worker, `when` of the time between two of its beats after the last one, until all of its
    sessions are others'."""
    connection = Store(there.server.url, timeout=10.0)
    registry = Registry(connection, LEASE)
    held: dict[str, dict[str, int]] = {"w1": {}, "w2": {}, "w3": {}}
    for worker in held:
        await registry.register(Worker(worker, "1", f"http://10.0.0.{worker[1:]}:9", 2 * LOST))
    await registry.want({f"s{number}": {} for number in range(3 * LOST)})
    await _beat_until(registry, held, list(held), lambda: all(len(one) == LOST for one in held.values()))
    lost = time.monotonic() + when * LEASE / 3
    await _beat_until(registry, held, ["w2", "w3"], lambda: len(held["w2"]) + len(held["w3"]) == 3 * LOST)
    seconds = time.monotonic() - lost
    await connection.close()
    return seconds


async def _beat_until(
    registry: Registry, held: dict[str, dict[str, int]], workers: list[str], done: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + _LONGEST
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"sessions by worker: { {worker: len(one) for worker, one in held.items()} }")
        for worker in workers:
            reports = {name: Report(fence, "connected") for name, fence in held[worker].items()}
            held[worker] = dict(await registry.beat(worker, "1", reports, {}))
        await asyncio.sleep(0.05)
