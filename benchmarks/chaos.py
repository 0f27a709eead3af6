"""Everything that may go wrong, by one command and with one verdict: `python benchmarks/chaos.py --faults 300`.

Three parts, each with a deployment of its own, one after the other, all from one `--seed`; `--part` chooses some:

relay      a third of the faults: relay, gateway and store are killed under load. Meanwhile the clock of the store steps
           by ten minutes, the receiver answers some sessions with 404, 419 and 429 or lets them hang, and the webhooks
           are sent as the existing workers send them (tests/e2e/chaos.py)
nemesis    the others: workers are frozen, killed, doubled or refuse the key, gateways, relay and store are killed or
           frozen, the clock steps (benchmarks/nemesis.py)
strangers  hostile clients for `--seconds`, all kinds at once (benchmarks/hostile.py)

What happened is written down as it happens, below `--keep` if that is given, and judged afterwards. 40 faults take less
than five minutes, 300 about twenty. Exits with 1 if anything is wrong in any part, which it says in sentences.

`--unkilled 60` instead: the load of the first part for so many seconds without kills: with a receiver that is good to
all, with one that is bad to some but for 429, and with that too. What do the healthy sessions feel of the others? They
may wait twice as long (the 99th percentile).
`--failovers 6` instead: the store fails over under load so many times, with `promise: replica`: a cluster, and with
`--sentinel` a master that a sentinel names, over TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import FILE, Figure, tell

from tests.e2e.account import Account
from tests.e2e.bad_receiver import HEALTHY
from tests.e2e.chaos import BAD, THROTTLED, chaos, unkilled
from tests.e2e.failover import failover, repeated
from tests.nemesis.history import History
from tests.nemesis.run import nemesis
from tests.ports import free_ports

_HOSTILE = Path(__file__).resolve().parent / "hostile.py"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Part:
    """What came of it: in numbers, and what is wrong."""

    figures: list[Figure]
    wrong: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=40, help="of the first two parts")
    parser.add_argument("--seconds", type=float, default=60.0, help="of hostile clients, who all come at once at first")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--keep", type=Path, help="folder for logs and histories, which must not exist")
    parser.add_argument("--failovers", type=int, default=0)
    parser.add_argument("--sentinel", action="store_true", help="with --failovers")
    parser.add_argument("--unkilled", type=float, default=0.0, metavar="SECONDS")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    with _folder(chosen.keep) as folder, free_ports() as free_port:
        if chosen.unkilled:
            return _compare(folder, free_port, chosen.unkilled)
        if chosen.failovers:
            return _judged({"failovers": _failovers(folder, free_port, chosen)})
        found = {}
        for name in chosen.part or PARTS:
            (folder / name).mkdir()
            found[name] = PARTS[name](folder / name, free_port, chosen)
            print(f"{name}: " + ", ".join(f"{one.what} {one.shown()}" for one in found[name].figures), flush=True)
    return _judged(found)


def _judged(found: dict[str, Part]) -> int:
    wrong = [f"{name}: {sentence}" for name, part in found.items() for sentence in part.wrong]
    for sentence in wrong[:_SHOWN]:
        print(f"wrong: {sentence}")
    print(f"{len(wrong)} wrong" if wrong else "nothing is wrong")
    figures = [
        Figure(f"{name}: {one.what}", one.value, one.unit) for name, part in found.items() for one in part.figures
    ]
    tell([*figures, Figure.none_of("wrong in all parts together", len(wrong))])
    return int(bool(wrong))


# --- the parts


def _relay(folder: Path, free_port: Callable[[], int], chosen: argparse.Namespace) -> Part:
    ports = free_port(), free_port()
    account = asyncio.run(chaos(folder, ports, kills=max(1, chosen.faults // 3), seed=chosen.seed))
    _write_down(account, folder / "history.jsonl")
    return _of(account)


def _failovers(folder: Path, free_port: Callable[[], int], chosen: argparse.Namespace) -> Part:
    kind: Literal["cluster", "sentinel"] = "sentinel" if chosen.sentinel else "cluster"
    failing = failover(folder, free_port, kind=kind, failovers=chosen.failovers, seed=chosen.seed)
    account, calls = asyncio.run(failing)
    part = _of(account)
    twice = [f"{text} went out twice" for text in repeated(account)]
    return Part([*part.figures, Figure("messages", len(calls.told))], [*part.wrong, *calls.wrong, *twice])


def _of(account: Account) -> Part:
    wrong = {"was lost": account.lost(), "came after a later one": account.out_of_order()}
    wrong |= {"came again under another id": account.unexplained()}
    sentences = [f"{session} {number} {what}" for what, sent in wrong.items() for session, number in sent]
    sentences += [f"{sent[0]} {sent[1]} is a dead letter: {account.dead[sent]}" for sent in account.wrongly_dead()]
    figures = [
        Figure("kills", account.kills.total()),
        Figure("steps of the clock", account.steps),
        Figure("events", len(account.emitted)),
        Figure("in the hands of killed gateways", len(account.cut_off())),
        Figure("sent again with their id", account.repeated()),
        Figure("dead letters, in whose POST three relays were killed", len(account.dead) - len(account.wrongly_dead())),
    ]
    return Part(figures, sentences)


def _write_down(account: Account, file: Path) -> None:
    history = History(file)
    for (session, number), at in account.emitted.items():
        end = "answered" if (session, number) in account.answered else account.given_up.get((session, number))
        history.note("emitted", at=at, session=session, number=number, end=end)
    for (session, number), identity, at in account.taken:
        history.note("taken", at=at, session=session, number=number, id=identity)
    for (session, number), moments in account.posted.items():
        for at in moments:
            history.note("posted", at=at, session=session, number=number)
    for at in account.relay_kills:
        history.note("relay killed", at=at)
    history.close()


def _nemesis(folder: Path, free_port: Callable[[], int], chosen: argparse.Namespace) -> Part:
    faults = max(1, chosen.faults - chosen.faults // 3)
    outcome = asyncio.run(nemesis(folder, free_port, faults=faults, seed=chosen.seed))
    counts = (Figure(name, count) for name, count in outcome.verdict.counts.items())
    gap = Figure("longest gap of an own worker's session", outcome.verdict.longest_gap, "s")
    return Part([Figure("faults", outcome.faults.total()), *counts, gap], list(outcome.verdict.wrong))


def _strangers(folder: Path, _: Callable[[], int], chosen: argparse.Namespace) -> Part:
    """In a process of its own, as it takes a core for itself."""
    file = folder / "figures.json"
    command = [sys.executable, str(_HOSTILE), "--seconds", str(chosen.seconds)]
    ran = subprocess.run(command, env={**os.environ, FILE: str(file)}, stdout=subprocess.PIPE, text=True, check=False)
    (folder / "table.md").write_text(ran.stdout)
    if not file.exists():
        return Part([], [f"hostile.py ended with {ran.returncode}, without a result"])
    figures = [Figure(**one) for one in json.loads(file.read_text())]
    missed = [f"{one.what} is {one.shown()} ({one.wanted})" for one in figures if one.met is False]
    return Part(figures, missed)


PARTS = {"relay": _relay, "nemesis": _nemesis, "strangers": _strangers}


# --- instead of them


def _compare(folder: Path, free_port: Callable[[], int], seconds: float) -> int:
    """One after the other, for each a deployment of its own."""
    accounts = []
    for name, bad in (("quiet", ()), ("404, 419 and hanging", BAD), ("429 too", BAD + THROTTLED)):
        mine = folder / str(len(accounts))
        mine.mkdir()
        account = asyncio.run(unkilled(mine, (free_port(), free_port()), seconds=seconds, bad=bad))
        p50, p99 = (1000 * account.latency(HEALTHY, percentile) for percentile in (50, 99))
        print(f"{name}: healthy sessions p50 {p50:.1f} ms, p99 {p99:.1f} ms; {account}", flush=True)
        accounts.append(account)
    quiet, beside, paused = (account.latency(HEALTHY, 99) for account in accounts)
    print(f"p99 beside quiet: {beside / quiet:.2f}, at most 2 wanted; {paused / quiet:.2f} where 429 pauses everybody")
    return int(beside > 2 * quiet or any(_of(account).wrong or account.given_up for account in accounts))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir()
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
