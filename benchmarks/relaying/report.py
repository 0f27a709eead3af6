"""What was measured, as numbers, and as Markdown for people."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from measured import Figure
from proxy import report as proxy_report

from relaying.accepted import RATE, Accepted
from relaying.delivered import PACKAGES, Delivered
from relaying.latency import Latency
from relaying.store_cost import Claims, Cost

_AS_FAST = 1.25
"""Times as long as with few: a tree of a million has twice the levels of one of a thousand."""


@dataclass(slots=True)
class Found:
    load: float
    """The load average before anything was started."""
    rounds: int
    delivered: list[Delivered] = field(default_factory=list)
    accepted: Accepted | None = None
    idle: Latency | None = None
    cost: Cost | None = None
    claims: list[Claims] = field(default_factory=list)
    alone: list[Latency] = field(default_factory=list)
    beside: list[Latency] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bar:
    what: str
    result: str
    wanted: str
    met: bool | None
    """None: it was skipped."""


def figures(found: Found) -> Iterator[Figure]:
    for who in dict.fromkeys(row.who for row in found.delivered):
        mine = [row for row in found.delivered if row.who == who]
        yield Figure(f"{who}: delivered/s", median(row.rate for row in mine))
        yield Figure(f"{who}: CPU for each", median(row.cpu_us for row in mine), "µs")
    if found.accepted is not None:
        yield Figure("accepting, CPU of the gateway for each", found.accepted.cpu_us, "µs")


def bars(found: Found) -> list[Bar]:
    return [*_delivered_bars(found.delivered), *_accepted_bars(found), *_cost_bars(found), *_stuck_bars(found)]


def _delivered_bars(rows: Sequence[Delivered]) -> Iterator[Bar]:
    ours = {row.round: row for row in rows if row.who == "sluice"}
    theirs = {row.round: row for row in rows if row.who == "bullmq"}
    if not ours:
        return
    if theirs:
        times = median(ours[number].rate / theirs[number].rate for number in ours)
        yield Bar("delivered/s: Sluice / BullMQ with undici", f"{times:.2f} times", "at least 2, aim 3", times >= 2)
    else:
        yield Bar(
            "delivered/s: Sluice / BullMQ with undici",
            "skipped: bullmq is not installed (--install)",
            "at least 2, aim 3",
            None,
        )
    wrong = sum(row.out_of_order for row in ours.values())
    yield Bar("delivered out of order by Sluice", str(wrong), "0", wrong == 0)


def _accepted_bars(found: Found) -> Iterator[Bar]:
    if found.accepted is not None:
        rate, p95 = found.accepted.rate, found.accepted.p95
        yield Bar("accepted/s over HTTP by one gateway", f"{rate:,.0f}", "at least 7,000", rate >= 7000)
        yield Bar(f"p95 at {RATE:,.0f}/s", f"{p95:.2f} ms", "at most 8 ms", p95 <= 8)
    if found.idle is not None:
        p50, p99 = found.idle.p50, found.idle.p99
        yield Bar("sent to delivered, idle, p50", f"{p50:.2f} ms", "at most 5 ms", p50 <= 5)
        yield Bar("sent to delivered, idle, p99", f"{p99:.2f} ms", "at most 25 ms", p99 <= 25)


def _cost_bars(found: Found) -> Iterator[Bar]:
    if found.cost is not None:
        trips, size = found.cost.round_trips, found.cost.bytes
        yield Bar("store round trips for an event, 16 at a time", f"{trips:.2f}", "at most 1.2", trips <= 1.2)
        yield Bar("store memory for an event of 512 bytes", f"{size:,.0f} bytes", "at most 1,200", size <= 1200)
    if found.claims:
        few, many = min(row.waiting for row in found.claims), max(row.waiting for row in found.claims)
        p50 = {waiting: median(row.p50 for row in found.claims if row.waiting == waiting) for waiting in {few, many}}
        measured = f"{p50[few]:.2f} and {p50[many]:.2f} ms"
        wanted = f"at most {_AS_FAST:g} times"
        yield Bar(
            f"16 settled and leased beside {few:,} and {many:,}", measured, wanted, p50[many] <= _AS_FAST * p50[few]
        )


def _stuck_bars(found: Found) -> Iterator[Bar]:
    if found.beside:
        alone, beside = (median(row.p99 for row in rows) for rows in (found.alone, found.beside))
        change = beside / alone - 1
        measured = f"{alone:.2f} ms, then {beside:.2f} ms"
        yield Bar("p99 of the others beside what hangs and is stuck", measured, "less than 20 % more", change < 0.2)


def raw(found: Found) -> dict[str, object]:
    about = proxy_report.about()
    named = {name: about[name] for name in ("machine", "versions", "commit", "at")}
    return {**named, **asdict(found), "bars": [asdict(bar) for bar in bars(found)]}


def markdown(found: Found) -> str:
    parts = [_preface(found)]
    if found.delivered:
        parts.append(_delivered(found))
    if found.accepted:
        one = found.accepted
        parts.append(
            f"Accepting costs the gateway {one.cpu_us:.0f} µs of CPU for each event, the store {one.store_us:.0f} µs. "
            f"At {RATE:,.0f}/s p50 {one.p50:.2f}, p95 {one.p95:.2f}, p99 {one.p99:.2f} ms; "
            f"{one.failed} failed, {one.unanswered} were not answered in time."
        )
    parts.append(_table(("", "result", "wanted"), [[bar.what, bar.result, bar.wanted] for bar in bars(found)]))
    return "\n\n".join(parts) + "\n"


def _preface(found: Found) -> str:
    about = proxy_report.about()
    versions = about["versions"]
    assert isinstance(versions, dict)
    shown = [f"{name} {versions[name]}" for name in ("Python", "Valkey", "uvloop")]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    peers = ", ".join(package.replace("@", " ") for package in PACKAGES)
    return (
        f"{about['machine']}. Commit {about['commit']}, {about['at']}, load average before it {found.load:.2f}.\n"
        f"{', '.join(shown)}; node {node}, {peers}."
    )


def _delivered(found: Found) -> str:
    rows = []
    for who in dict.fromkeys(row.who for row in found.delivered):
        mine = [row for row in found.delivered if row.who == who]
        numbers = (
            (median(row.rate for row in mine), 0),
            (median(row.cpu_us for row in mine), 0),
            (median(row.store_us for row in mine), 0),
            (median(row.receiver_us for row in mine), 0),
            (median(row.busy for row in mine) * 100, 0),
            (sum(row.out_of_order for row in mine), 0),
        )
        rows.append([who, *(f"{number:,.{digits}f}" for number, digits in numbers)])
    return _table(("", "delivered/s", "CPU µs", "store µs", "receiver µs", "core busy %", "out of order"), rows)


def _table(names: Sequence[str], rows: list[list[str]]) -> str:
    head = ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])
