"""The parts of `benchmarks/relay.py`, one after the other, each on a store of its own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from measured import Figure, tell
from proxy.processes import NotReady

from relaying import accepted, delivered, latency, report, store_cost
from relaying.report import Found

PARTS = ("delivered", "accepted", "idle", "cost", "parked", "stuck")
_FEW = 1_000
P = ParamSpec("P")
T = TypeVar("T")


def main() -> int:
    wishes = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all processes are ended too
    if wishes.install:
        delivered.install()
        return 0
    try:
        found = _run(wishes.part or PARTS, _Plan(quick=wishes.quick, short=wishes.short))
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
        prog="relay.py", description="The relay, beside BullMQ with undici; Markdown on standard output."
    )
    parser.add_argument("--install", action="store_true", help="install the peer from npm, and end")
    parser.add_argument("--quick", action="store_true", help="one round, few events")
    parser.add_argument("--short", action="store_true", help="fewer rounds, at most five minutes")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw numbers go")
    return parser


class _Plan:
    """How much of each."""

    def __init__(self, *, quick: bool, short: bool) -> None:
        fewer = quick or short
        self.rounds = 1 if fewer else 3
        self.delivered_rounds = 1 if quick else 3 if short else 7
        self.delivered = 5_000 if quick else 45_000
        self.seconds = 1.0 if quick else 4.0 if short else 8.0
        self.idle = 40 if quick else 500
        self.cost = 5_000 if quick else 100_000
        self.parked = 20_000 if quick else 300_000 if short else 1_000_000
        self.stuck = 1_000 if quick else 5_000


def _run(parts: list[str] | tuple[str, ...], plan: _Plan) -> Found:
    found = Found(os.getloadavg()[0], plan.delivered_rounds)
    for part in PARTS:
        if part in parts:
            _PARTS[part](plan, found)
    return found


def _delivered(plan: _Plan, found: Found) -> None:
    peers = ["sluice", "bullmq"] if delivered.installed() else ["sluice"]
    for number in range(1, plan.delivered_rounds + 1):
        for who in peers:
            found.delivered.append(_on(delivered.measure, who, number, plan.delivered))


def _accepted(plan: _Plan, found: Found) -> None:
    found.accepted = _on(accepted.measure, plan.seconds)


def _idle(plan: _Plan, found: Found) -> None:
    found.idle = _on(latency.idle, plan.idle)


def _cost(plan: _Plan, found: Found) -> None:
    found.cost = _on(store_cost.cost, plan.cost)


def _parked(plan: _Plan, found: Found) -> None:
    for _ in range(plan.rounds):
        for waiting in (_FEW, plan.parked):
            found.claims.append(_on(store_cost.claims, waiting, _FEW))


def _stuck(plan: _Plan, found: Found) -> None:
    for _ in range(plan.rounds):
        found.alone.append(_on(latency.beside, plan.stuck, False))
        found.beside.append(_on(latency.beside, plan.stuck, True))


_PARTS: dict[str, Callable[[_Plan, Found], None]] = {
    "delivered": _delivered,
    "accepted": _accepted,
    "idle": _idle,
    "cost": _cost,
    "parked": _parked,
    "stuck": _stuck,
}


def _on(measure: Callable[Concatenate[Path, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """In a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True) as folder:
        result = measure(Path(folder) / "s", *args, **kwargs)  # a socket's path is short
    _say(str(result))
    return result


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
