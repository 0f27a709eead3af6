"""Reverse proxies side by side: what a request costs, how many there can be, how long each takes.

    .venv/bin/python benchmarks/proxy.py --install      the peers: nginx by apt-get (as root), the rest in a venv here
    .venv/bin/python benchmarks/proxy.py --quick        in two minutes: does all of it work
    .venv/bin/python benchmarks/proxy.py --json raw.json > table.md

One round measures each peer once, and there are several rounds (A B C, A B C, …), so that a noisy minute falls on all.
A peer is started anew in each round. The proxy has one core; upstream, generator and store share another one.
What is measured, for each number of connections and each size of answer:

saturation   closed loop: requests/s, and CPU time (user + system of the process tree, as the kernel counts it) for each
half         open loop at half of that rate: latency from the moment a request was due, and CPU time again
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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy import report
from proxy.generator import Result, Task
from proxy.peers import Peer, Running, Site, answering, install, peers, upstream
from proxy.processes import NotReady, free_port
from proxy.report import Direct, Row

_WARMUP = 1.0
_LONGEST_STEP = 60.0  # beyond the measured time; then the generator hangs


@dataclass(frozen=True, slots=True)
class Plan:
    peers: tuple[Peer, ...]
    rounds: int
    seconds: float
    connections: tuple[int, ...]
    sizes: tuple[int, ...]


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
            bench = Bench(plan, Cores.of_this_machine(), Path(folder))
            rows, direct = bench.run()
    except KeyboardInterrupt:
        return 130
    except NotReady as error:
        _say(str(error))
        return 2
    sys.stdout.write(report.table(rows, direct, plan.seconds, plan.rounds, load))
    if wishes.json:
        wishes.json.write_text(json.dumps(report.raw(rows, direct), indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Reverse proxies side by side; a Markdown table on standard output.")
    parser.add_argument("--install", action="store_true", help="install the peers first (nginx needs root)")
    parser.add_argument("--quick", action="store_true", help="2 s a step, one round, 32 connections, 64 bytes")
    parser.add_argument("--peers", metavar="A,B,C", help=f"of {', '.join(peer.name for peer in peers())}")
    parser.add_argument("--seconds", type=float, metavar="N", help="of each step (default: 5)")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 3")
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
        rounds=wishes.rounds or (1 if quick else 3),
        seconds=wishes.seconds or (2.0 if quick else 5.0),
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


class Bench:
    def __init__(self, plan: Plan, cores: Cores, folder: Path) -> None:
        self._plan = plan
        self._cores = cores
        self._folder = folder
        self._rows: list[Row] = []
        self._direct: list[Direct] = []
        self._upstream = free_port()

    def run(self) -> tuple[list[Row], list[Direct]]:
        folder = self._new_folder("upstream")
        with upstream(folder, self._upstream, self._cores.rest) as pid:
            self._upstream_alone(pid)
            for number in range(1, self._plan.rounds + 1):
                for peer in self._plan.peers:
                    self._peer(peer, number)
        return self._rows, self._direct

    def _upstream_alone(self, pid: int) -> None:
        """Its own rate, so that a reader sees that it is no peer's ceiling."""
        for size in self._plan.sizes:
            for connections in self._plan.connections:
                _say(f"upstream alone: {connections} connections, {size} bytes")
                result = self._load(Task(self._upstream, f"/{size}", connections, 2.0, 0.5, watch={"upstream": pid}))
                self._direct.append(Direct.of(connections, size, result))

    def _peer(self, peer: Peer, number: int) -> None:
        folder = self._new_folder(f"{peer.name}-{number}")
        site = Site(folder, self._upstream, free_port(), self._cores.proxy, self._cores.rest)
        with ExitStack() as stack:
            try:
                running = stack.enter_context(peer.start(site))
                answering(running.port, folder / "log")
            except NotReady as error:
                _say(f"{peer.name}: skipped in round {number}, {error}")
                return
            for size in self._plan.sizes:
                for connections in self._plan.connections:
                    _say(f"round {number}/{self._plan.rounds} {peer.name}: {connections} connections, {size} bytes")
                    self._rows.append(self._measure(peer, number, running, connections, size))

    def _measure(self, peer: Peer, number: int, running: Running, connections: int, size: int) -> Row:
        watch = {"proxy": running.pid} | ({"store": running.store} if running.store else {})
        seconds = self._plan.seconds
        saturation = self._load(Task(running.port, f"/{size}", connections, seconds, _WARMUP, watch=watch))
        rate = max(1.0, saturation.answered / saturation.seconds / 2)
        half = self._load(Task(running.port, f"/{size}", connections, seconds, _WARMUP, rate, watch))
        direct = self._load(Task(self._upstream, f"/{size}", connections, seconds, _WARMUP, rate))
        row = Row.of(peer, number, connections, size, saturation, half, direct)
        _say(f"    {report.line(row)}")
        return row

    def _load(self, task: Task) -> Result:
        """In a process of its own, on the core that the proxy has not."""
        command = ["taskset", "-c", str(self._cores.rest), sys.executable, "-m", "proxy.generator"]
        done = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            input=json.dumps(asdict(task)).encode(),
            capture_output=True,
            timeout=task.seconds + task.warmup + _LONGEST_STEP,
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
