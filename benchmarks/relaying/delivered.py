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


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one of them did between a tenth and nine tenths of the events. CPU in microseconds for each."""

    who: str
    round: int
    rate: float
    cpu_us: float
    store_us: float
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
        if who == "sluice":
            there.fill(events, sessions=_SESSIONS)
        else:
            _fill_bullmq(there, events)
        before = there.receiver.forget()
        with _worker(there, who) as pid:
            samples = list(_watched(there, pid, events))
        last = there.receiver.told()
    first = next(i for i, sample in enumerate(samples) if sample.taken >= before.taken + events * 0.1)
    end = next(i for i, sample in enumerate(samples) if sample.taken >= events * 0.9)
    one, other = samples[first], samples[end]
    taken, seconds = other.taken - one.taken, other.at - one.at
    return Delivered(
        *(who, number, taken / seconds, (other.cpu - one.cpu) / taken * 1e6, (other.store - one.store) / taken * 1e6),
        *((other.cpu - one.cpu) / seconds, last.out_of_order, last.repeated),
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    taken: int
    cpu: float
    store: float


def _watched(there: Site, pid: int, events: int) -> Iterator[_Sample]:
    deadline = time.monotonic() + _LONGEST
    while True:
        told = there.receiver.told()
        yield _Sample(told.at, told.taken, cpu_seconds(pid), there.server.cpu())
        if told.taken >= events:
            return
        if time.monotonic() > deadline:
            raise NotReady(f"{told.taken} of {events} events were delivered in {_LONGEST:g} s")
        time.sleep(0.05)


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
