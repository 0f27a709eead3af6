"""The steps of `benchmarks/limits.py`, one after the other on one store."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from measured import Figure, tell
from proxy.processes import NotReady

from limiting import report
from limiting.accuracy import Accuracy, Seen, judged
from limiting.report import Memory, Rate, Report
from limiting.store import Cores, Store, store
from limiting.worker import Result, Task

PARTS = ("rates", "accuracy", "memory")
_HERE = Path(__file__).parent.parent
_LONGEST = 120.0  # seconds beyond the measured time; then a process hangs
_FILL = 600.0
_SETTLED = 0.5

_PROCESSES, _TASKS = 4, 50
_SUBJECTS = 40
_ACCURACY_RATE, _ACCURACY_BURST = 20, 40
_SHORT = "1000/second"  # a bucket of this rate is full again, and so gone, a second later
_SOON = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    parts: tuple[str, ...]
    rounds: int
    seconds: float
    accuracy: float
    buckets: int


def main() -> int:
    wishes = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the store is ended too
    load, _, _ = os.getloadavg()
    try:
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            found = _run(_plan(wishes), Path(folder), load)
    except KeyboardInterrupt:
        return 130
    except NotReady as error:
        _say(str(error))
        return 2
    sys.stdout.write(report.markdown(found))
    if wishes.json:
        wishes.json.write_text(json.dumps(report.raw(found), indent=1) + "\n")
    bars = report.bars(found)
    tell([*report.figures(found), *(Figure(bar.what, bar.result, "", bar.wanted, bar.met) for bar in bars)])
    return 0 if all(bar.met is not False for bar in bars) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="limits.py", description="The limiter beside the library limits; Markdown on standard output."
    )
    parser.add_argument("--quick", action="store_true", help="1 s a step, one round, 5 s of accuracy, 20,000 buckets")
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--rounds", type=int, metavar="N", help="of the rates (default: 5)")
    parser.add_argument("--seconds", type=float, metavar="N", help="of accuracy (default: 60)")
    parser.add_argument("--buckets", type=int, metavar="N", help="live at once (default: 1000000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw numbers go")
    return parser


def _plan(wishes: argparse.Namespace) -> Plan:
    quick = wishes.quick
    return Plan(
        parts=(wishes.part,) if wishes.part else PARTS,
        rounds=wishes.rounds or (1 if quick else 5),
        seconds=1.0 if quick else 4.0,
        accuracy=wishes.seconds or (5.0 if quick else 60.0),
        buckets=wishes.buckets or (20_000 if quick else 1_000_000),
    )


def _run(plan: Plan, folder: Path, load: float) -> Report:
    cores = Cores.of_this_machine()
    with store(folder / "store", cores.store) as running:
        rates = _rates(plan, running, cores) if "rates" in plan.parts else ()
        accuracy = _accuracy(plan, running) if "accuracy" in plan.parts else None
        memory = _memory(plan, running, cores) if "memory" in plan.parts else None
    return Report(load, plan.rounds, plan.seconds, plan.accuracy, tuple(rates), accuracy, memory)


# --- rates


def _rates(plan: Plan, running: Store, cores: Cores) -> list[Rate]:
    rows = []
    for number in range(1, plan.rounds + 1):
        for what, buckets in (("sluice", 1), ("sluice", 3), ("limits", 1), ("limits", 3)):
            running.empty()
            with _process(Task(what, running.url, plan.seconds, buckets), cores.process) as process:
                rows.append(_rate(what, buckets, number, running, process))
            _say(f"round {number}/{plan.rounds} {report.line(rows[-1])}")
    return rows


def _rate(what: str, buckets: int, number: int, running: Store, process: subprocess.Popen[bytes]) -> Rate:
    """The store's CPU and calls are those of the whole process: its start is a few calls of tens of thousands."""
    calls, cpu = running.calls(), running.cpu()
    result = _finished(process)
    each = 1 / max(1, result.decisions)
    return Rate(
        what=what,
        buckets=buckets,
        round=number,
        rate=result.decisions / result.seconds,
        cpu_us=result.cpu * each * 1e6,
        store_us=(running.cpu() - cpu) * each * 1e6,
        calls=(running.calls() - calls) * each,
        busy=result.cpu / result.seconds,
    )


# --- accuracy


def _accuracy(plan: Plan, running: Store) -> Accuracy:
    running.empty()
    rate = f"{_ACCURACY_RATE}/second"
    before = _clocks(running)
    with ExitStack() as stack:
        task = Task("accuracy", running.url, plan.accuracy, 1, _TASKS, rate, _ACCURACY_BURST, _SUBJECTS)
        tasks = [replace(task, seed=seed) for seed in range(_PROCESSES)]
        processes = [stack.enter_context(_process(task)) for task in tasks]
        results = [_finished(process) for process in processes]
    after = _clocks(running)
    seen = [one for result in results for one in _seen(result)]
    ours = max(one.answered for one in seen) - min(one.asked for one in seen)
    elapsed = ours * (after[1] - before[1]) / (after[0] - before[0])
    found = judged(seen, _ACCURACY_RATE, _ACCURACY_BURST, elapsed)
    _say(f"accuracy: {found}")
    return found


def _clocks(running: Store) -> tuple[float, float]:
    """Ours and the store's, at one moment."""
    return time.monotonic(), running.now()


def _seen(result: Result) -> Iterator[Seen]:
    rows = zip(*(result.seen[name] for name in ("subject", "asked", "answered", "passed")), strict=True)
    for subject, asked, answered, passed in rows:
        yield Seen(int(subject), asked, answered, bool(passed))


# --- memory


def _memory(plan: Plan, running: Store, cores: Cores) -> Memory:
    running.empty()
    time.sleep(_SETTLED)
    before = running.used_memory()
    filled = _fill(running, cores, plan.buckets, "1/day", 10)
    time.sleep(_SETTLED)
    live = running.client.dbsize()
    each = (running.used_memory() - before) / max(1, live)
    key = len(running.client.randomkey() or b"")
    _say(f"memory: {live:,} live buckets, {each:.1f} bytes each, filled in {filled.seconds:.0f} s")
    running.empty()
    short = min(plan.buckets, 100_000)
    _fill(running, cores, short, _SHORT, 1000)
    began = time.monotonic()
    while running.client.dbsize() and time.monotonic() - began < _SOON:
        time.sleep(0.05)
    left, seconds = running.client.dbsize(), time.monotonic() - began
    _say(f"memory: {left:,} of {short:,} left {seconds:.1f} s after the last was taken from")
    return Memory(live, plan.buckets, each, key, short, left, seconds)


def _fill(running: Store, cores: Cores, count: int, rate: str, burst: int) -> Result:
    task = Task("fill", running.url, in_flight=64, rate=rate, burst=burst, subjects=count)
    with _process(task, cores.process) as process:
        return _finished(process, _FILL)


# --- processes


@contextmanager
def _process(task: Task, core: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """With its task told, so it runs; without a core of its own wherever there is room."""
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    process = subprocess.Popen(
        [*pinned, sys.executable, "-m", "limiting.worker"],
        cwd=_HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # in our order: the library before this folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(task)).encode())
        process.stdin.close()
        process.stdin = None  # it has all of it; `communicate` need not
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _finished(process: subprocess.Popen[bytes], longest: float = _LONGEST) -> Result:
    try:
        out, err = process.communicate(timeout=longest)
    except subprocess.TimeoutExpired:
        raise NotReady("a process does not end") from None
    if process.returncode:
        raise NotReady(f"a process failed: {err.decode(errors='replace').strip().splitlines()[-1:]}")
    return Result(**json.loads(out))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
