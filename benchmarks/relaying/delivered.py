"""Events delivered per second by one process, Sluice's relay and BullMQ with undici in turn."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.processes import NotReady, cpu_seconds, started

from relaying.body import body
from relaying.site import Site, site

NODE = Path(__file__).parent.parent / ".peers" / "node"
PACKAGES = ("bullmq@6.7.0", "undici@7.30.2", "ioredis@5.9.2")
_SCRIPT = Path(__file__).parent / "bullmq.mjs"
_LONGEST = 300.0
_SESSIONS = 1000
_WARMUP = 10_000  # events: those that the JIT of node needs; of fewer than twice as many, a tenth
_END = 0.9  # of the events; then the last attempts run out


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one of them did between the warm-up and nine tenths of the events. CPU in microseconds for each."""

    who: str
    round: int
    rate: float
    cpu_us: float
    store_us: float
    receiver_us: float
    """On the core of the store: what both of them are held back by together."""
    busy: float
    out_of_order: int
    repeated: int


def installed() -> bool:
    return (NODE / "node_modules" / "bullmq").is_dir()


def install() -> None:
    """From npm, into `benchmarks/.peers/node`."""
    NODE.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *PACKAGES], cwd=NODE, check=True)


def measure(folder: Path, who: str, number: int, events: int) -> Delivered:
    with site(folder) as there:
        there.server.client.config_set("auto-aof-rewrite-percentage", 0)  # else it falls into the measured time of some
        if who == "sluice":
            there.fill(events, sessions=_SESSIONS)
        else:
            _fill_bullmq(there, events)
        there.receiver.forget()
        with _worker(there, who) as pid:
            samples = list(_watched(there, pid, events))
        last = there.receiver.counts()
    one = next(sample for sample in samples if sample.received >= warmup(events))
    other = next(sample for sample in samples if sample.received >= events * _END)
    taken, seconds = other.received - one.received, other.at - one.at
    costs = [(after - before) / taken * 1e6 for before, after in zip(one.cpu, other.cpu, strict=True)]
    busy = (other.cpu[0] - one.cpu[0]) / seconds
    return Delivered(who, number, taken / seconds, *costs, busy, last.out_of_order, last.repeated)


def warmup(events: int) -> int:
    """How many of them come before the measured time."""
    return _WARMUP if events >= 2 * _WARMUP else events // 10


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    received: int
    cpu: tuple[float, float, float]
    """Seconds so far: of the measured process, the store, the receiver."""


def _watched(there: Site, pid: int, events: int) -> Iterator[_Sample]:
    deadline = time.monotonic() + _LONGEST
    while True:
        counts = there.receiver.counts()
        cpu = (cpu_seconds(pid), there.server.cpu(), cpu_seconds(there.receiver.pid))
        yield _Sample(counts.at, counts.received, cpu)
        if counts.received >= events:
            return
        if time.monotonic() > deadline:
            raise NotReady(f"{counts.received} of {events} events were delivered in {_LONGEST:g} s")
        time.sleep(0.2)  # to look costs the store's core a millisecond


@contextmanager
def _worker(there: Site, who: str) -> Iterator[int]:
    if who == "sluice":
        with there.process("relay") as pid:
            yield pid
    else:
        command = _node("work", there)
        with started(command, there.cores.process, there.folder / "bullmq.log", cwd=NODE) as process:
            yield process.pid


def _fill_bullmq(there: Site, events: int) -> None:
    bodies = b"\n".join(body(n % _SESSIONS, n // _SESSIONS) for n in range(events))
    subprocess.run(_node("fill", there), cwd=NODE, input=bodies + b"\n", check=True)


def _node(what: str, there: Site) -> list[str]:
    script = NODE / _SCRIPT.name  # where its imports are found
    shutil.copyfile(_SCRIPT, script)
    return ["node", str(script), what, there.server.url.removeprefix("unix://"), str(there.receiver.port)]
