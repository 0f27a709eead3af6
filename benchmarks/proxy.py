"""Reverse proxies side by side: what a request costs, how many there can be, how long each takes.

    .venv/bin/python benchmarks/proxy.py --install      the peers: nginx by apt-get (as root), the rest in a venv here
    .venv/bin/python benchmarks/proxy.py --quick        in two minutes: does all of it work
    .venv/bin/python benchmarks/proxy.py --json raw.json > table.md

All peers run at the same time, idle unless they are loaded, and the load goes round them in short slices, there and
back (A B C, C B A, …): the speed of a shared machine changes within seconds, and like this every change falls on all.
One way through all peers is a round; ratios are taken within a round. The proxy has one core; upstream, generator and
store share another one. What is measured, for each number of connections and each size of answer:

saturation   closed loop: requests/s, and CPU time (user + system of the process tree, as the kernel counts it) for each
half         open loop at half of the rate that a short slice of saturation just before had: latency from the moment a
             request was due, and CPU time again
direct       the same open loop at the same rate straight to the upstream: the difference is what the proxy adds
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from measured import tell
from proxy import report
from proxy.generator import Result, Task
from proxy.peers import Peer, Running, Site, answering, install, peers, upstream
from proxy.processes import NotReady, cpu_seconds, free_port
from proxy.report import Direct, Found, Paced, Saturated, Way
from proxy.rounds import there_and_back

_FIRST_WARMUP = 2.0  # seconds of load for each peer before the slices of a step: JITs, pools, caches
_WARMUP = 0.15  # seconds before each slice
_GLANCE = 0.02  # seconds in which a peer that is through with all shows that it is
_IDLE = 0.1  # of its core
_MAX_REST = 10.0  # seconds
_MAX_STEP = 60.0  # beyond the measured time; then the generator hangs


@dataclass(frozen=True, slots=True)
class Plan:
    peers: tuple[Peer, ...]
    rounds: int
    """Of saturation."""
    seconds: float
    """Of a slice."""
    connections: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def paced_rounds(self) -> int:
        """A quarter of the others, but three if there are so many."""
        return max(self.rounds // 4, min(3, self.rounds))


@dataclass(frozen=True, slots=True)
class Cores:
    proxy: int
    rest: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first two that we may use; the same one twice where there is only one."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1 % len(usable)])


def main() -> int:
    wishes = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the peers are ended too
    if wishes.install:
        install()
    load, _, _ = os.getloadavg()
    try:
        plan = _plan(wishes)
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            found = Bench(plan, Cores.of_this_machine(), Path(folder)).run()
    except KeyboardInterrupt:
        return 130
    except NotReady as error:
        _say(str(error))
        return 2
    sys.stdout.write(report.table(found, Way(plan.rounds, plan.paced_rounds, plan.seconds, _WARMUP, load)))
    if wishes.json:
        wishes.json.write_text(json.dumps(report.raw(found), indent=1) + "\n")
    return tell(report.figures(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Reverse proxies side by side; a Markdown table on standard output.")
    parser.add_argument("--install", action="store_true", help="install the peers first (nginx needs root)")
    parser.add_argument("--quick", action="store_true", help="three rounds, 32 connections, 64 bytes")
    parser.add_argument("--peers", metavar="A,B,C", help=f"of {', '.join(peer.name for peer in peers())}")
    parser.add_argument("--seconds", type=float, metavar="N", help="of each slice (default: 0.6)")
    parser.add_argument("--rounds", type=int, metavar="N", help="of saturation, a quarter at half (default: 12)")
    parser.add_argument("--connections", type=_numbers, metavar="N,M", help="default: 32,256")
    parser.add_argument("--sizes", type=_numbers, metavar="N,M", help="64, 65536 or both (default), in bytes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw rows go")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _plan(wishes: argparse.Namespace) -> Plan:
    quick = wishes.quick
    return Plan(
        peers=tuple(_present(peers(), wishes.peers.split(",") if wishes.peers else None)),
        rounds=wishes.rounds or (3 if quick else 12),
        seconds=wishes.seconds or 0.6,
        connections=wishes.connections or ((32,) if quick else (32, 256)),
        sizes=wishes.sizes or ((64,) if quick else (64, 65536)),
    )


def _present(known: Sequence[Peer], wanted: Sequence[str] | None) -> Iterator[Peer]:
    unknown = set(wanted or ()) - {peer.name for peer in known}
    if unknown:
        raise NotReady(f"no such peer: {', '.join(sorted(unknown))}")
    for peer in known:
        if wanted and peer.name not in wanted:
            continue
        if peer.program.exists():
            yield peer
        else:
            _say(f"{peer.name}: skipped, {peer.program} is not installed (--install does it)")


@dataclass(frozen=True, slots=True)
class Started:
    """A peer that runs."""

    peer: Peer
    running: Running

    @property
    def watch(self) -> dict[str, int]:
        return {"proxy": self.running.pid} | ({"store": self.running.store} if self.running.store else {})

    def rest(self) -> None:
        """Until it has ended the connections that the generator closed, so that the next one has the core to itself."""
        deadline, used = time.monotonic() + _MAX_REST, cpu_seconds(self.running.pid)
        while time.monotonic() < deadline:
            time.sleep(_GLANCE)
            before, used = used, cpu_seconds(self.running.pid)
            if used - before < _GLANCE * _IDLE:
                return


class Bench:
    def __init__(self, plan: Plan, cores: Cores, folder: Path) -> None:
        self._plan = plan
        self._cores = cores
        self._folder = folder
        self._found = Found()
        self._upstream = free_port()

    def run(self) -> Found:
        with ExitStack() as stack:
            pid = stack.enter_context(upstream(self._new_folder("upstream"), self._upstream, self._cores.rest))
            all_started = list(self._start_all(stack))
            for size in self._plan.sizes:
                for connections in self._plan.connections:
                    self._upstream_alone(pid, connections, size)
                    self._step(all_started, connections, size)
        return self._found

    def _start_all(self, stack: ExitStack) -> Iterator[Started]:
        for peer in self._plan.peers:
            folder = self._new_folder(peer.name)
            site = Site(folder, self._upstream, free_port(), self._cores.proxy, self._cores.rest)
            with ExitStack() as mine:
                try:
                    running = mine.enter_context(peer.start(site))
                    answering(running.port, folder / "log")
                except NotReady as error:
                    _say(f"{peer.name}: skipped, {error}")
                    continue
                stack.push(mine.pop_all())  # it runs until the end
                yield Started(peer, running)

    def _upstream_alone(self, pid: int, connections: int, size: int) -> None:
        """Its own rate, so that a reader sees that it is no peer's ceiling."""
        _say(f"{connections} connections, {size} bytes: upstream alone")
        result = self._load(Task(self._upstream, f"/{size}", connections, 2.0, 0.5, watch={"upstream": pid}))
        self._found.direct.append(Direct.of(connections, size, result))

    def _step(self, all_started: Sequence[Started], connections: int, size: int) -> None:
        """All peers, with so many connections and answers of that size."""
        for one in all_started:
            _say(f"{connections} connections, {size} bytes: {one.peer.name} warms up")
            self._load(Task(one.running.port, f"/{size}", connections, 0.0, _FIRST_WARMUP))
            one.rest()
        for number, one in there_and_back(all_started, self._plan.rounds):
            self._saturate(one, number, connections, size)
        for number, one in there_and_back(all_started, self._plan.paced_rounds):
            self._pace(one, number, connections, size)

    def _saturate(self, one: Started, number: int, connections: int, size: int) -> None:
        task = Task(one.running.port, f"/{size}", connections, self._plan.seconds, _WARMUP, watch=one.watch)
        row = Saturated.of(one.peer, number, task, size, self._load(task))
        one.rest()
        self._found.saturated.append(row)
        _say(f"    {number}/{self._plan.rounds} {row.peer}: {row.cpu_us:.0f} us, {row.rate:,.0f}/s")

    def _pace(self, one: Started, number: int, connections: int, size: int) -> None:
        seconds = self._plan.seconds
        full = Task(one.running.port, f"/{size}", connections, seconds / 2, _WARMUP)
        probe = self._load(full)  # what was saturation a minute ago may be too much, or little, by now
        rate = max(1.0, probe.answered / probe.seconds / 2)
        task = replace(full, seconds=seconds, rate=rate, watch=one.watch)
        half = self._load(task)
        one.rest()
        direct = self._load(replace(task, port=self._upstream, watch={}))
        row = Paced.of(one.peer, number, task, size, half, direct)
        self._found.paced.append(row)
        _say(f"    {number}/{self._plan.paced_rounds} {row.peer}: {row.cpu_us:.0f} us at {rate:,.0f}/s")

    def _load(self, task: Task) -> Result:
        """In a process of its own, on the core that the proxy has not."""
        command = ["taskset", "-c", str(self._cores.rest), sys.executable, "-m", "proxy.generator"]
        done = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            input=json.dumps(asdict(task)).encode(),
            capture_output=True,
            timeout=task.seconds + task.warmup + _MAX_STEP,
            check=False,
        )
        if done.returncode:
            raise NotReady(f"the generator failed: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
        return Result(**json.loads(done.stdout))

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
