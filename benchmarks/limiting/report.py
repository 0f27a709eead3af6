"""What was measured, as numbers, and as Markdown for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median

from measured import Figure
from proxy import report as proxy_report

from limiting.accuracy import Accuracy


@dataclass(frozen=True, slots=True)
class Rate:
    """One way to decide, in one round."""

    what: str
    buckets: int
    round: int
    rate: float
    """Decisions per second."""
    cpu_us: float
    store_us: float
    calls: float
    """Round trips to the store for each decision."""
    busy: float
    """The share of its core that the process had: well below 1 means that the store was the limit."""


@dataclass(frozen=True, slots=True)
class Memory:
    live: int
    wanted: int
    each: float
    """Bytes."""
    key: int
    """Bytes of a bucket's name."""
    short: int
    left: int
    """Of `short` buckets that were full again long since."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    load: float
    """The load average before anything was started, so that a reader knows how quiet the machine was."""
    rounds: int
    seconds: float
    accuracy_seconds: float
    rates: tuple[Rate, ...]
    accuracy: Accuracy | None
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class Bar:
    what: str
    result: str
    wanted: str
    met: bool


def figures(report: Report) -> Iterator[Figure]:
    for what, buckets in dict.fromkeys((row.what, row.buckets) for row in report.rates):
        mine = [row for row in report.rates if (row.what, row.buckets) == (what, buckets)]
        name = f"{what}, {buckets} bucket{'s' if buckets > 1 else ''}"
        yield Figure(f"{name}: decisions/s", median(row.rate for row in mine))
        yield Figure(f"{name}: CPU for each", median(row.cpu_us for row in mine), "µs")


def bars(found: Report) -> list[Bar]:
    return [*_rate_bars(found.rates), *_accuracy_bars(found.accuracy), *_memory_bars(found.memory)]


def _rate_bars(rates: Sequence[Rate]) -> Iterator[Bar]:
    if not rates:
        return
    times = median(_in_each_round(rates, lambda row: row.rate, ("sluice", 3), ("limits", 3)))
    yield Bar("three buckets, decisions/s: sluice / limits", f"{times:.1f} times", "at least 5", times >= 5)
    one = median(row.rate for row in rates if (row.what, row.buckets) == ("sluice", 1))
    yield Bar("one bucket, decisions/s of one process", f"{one:,.0f}", "at least 25,000", one >= 25_000)


def _in_each_round(
    rates: Sequence[Rate], value: Callable[[Rate], float], one: tuple[str, int], other: tuple[str, int]
) -> list[float]:
    """Each ratio is taken within a round: what a noisy machine cannot bend much."""
    at = {(row.round, row.what, row.buckets): value(row) for row in rates}
    return [at[number, *one] / at[number, *other] for number in sorted({row.round for row in rates})]


def _accuracy_bars(found: Accuracy | None) -> Iterator[Bar]:
    if found is None:
        return
    over = max(0.0, found.over_by_clock)
    yield Bar("passed beyond burst + rate x time, by the store's clock", f"{over:g}", "0", over == 0)
    yield Bar("the same in any shorter window", str(found.over_in_window), "0", found.over_in_window == 0)
    share = found.share_wrongly_refused
    yield Bar("refused although there was a token", f"{share:.3%}", "at most 0.1 %", share <= 0.001)


def _memory_bars(found: Memory | None) -> Iterator[Bar]:
    if found is None:
        return
    yield Bar(f"bytes for each of {found.live:,} live buckets", f"{found.each:.0f}", "at most 150", found.each <= 150)
    yield Bar("buckets lost while they were live", f"{found.wanted - found.live:,}", "0", found.wanted == found.live)
    left = f"{found.left:,} of {found.short:,} after {found.seconds:.1f} s"
    yield Bar("full buckets that do not go by themselves", left, "0", found.left == 0)


def line(row: Rate) -> str:
    return (
        f"{_named(row.what, row.buckets)}: {row.rate:,.0f}/s, {row.cpu_us:.0f} us here, {row.store_us:.0f} us in the "
        f"store, {row.calls:.2f} round trips"
    )


def raw(found: Report) -> dict[str, object]:
    about = proxy_report.about()
    return {
        **{name: about[name] for name in ("machine", "versions", "commit", "at")},
        **asdict(found),
        "bars": [asdict(bar) for bar in bars(found)],
    }


def markdown(found: Report) -> str:
    parts = [_preface(found)]
    if found.rates:
        parts.append(_rates(found))
    if found.accuracy:
        parts.append(_accuracy(found, found.accuracy))
    if found.memory:
        parts.append(f"A bucket's name has {found.memory.key} bytes there.")
    parts.append(_table(("", "result", "wanted"), ([bar.what, bar.result, bar.wanted] for bar in bars(found))))
    return "\n\n".join(parts) + "\n"


def _preface(found: Report) -> str:
    about = proxy_report.about()
    versions = about["versions"]
    assert isinstance(versions, dict)
    packages = {name: version(name) for name in ("limits", "redis", "hiredis", "uvloop")}
    shown = {"Python": versions["Python"], "Valkey": versions["Valkey"]} | packages
    return (
        f"{about['machine']}. Commit {about['commit']}, {about['at']}, load average before it {found.load:.2f}.\n"
        + ", ".join(f"{name} {number}" for name, number in shown.items())
        + "."
    )


_METHOD = """\
One process, 32 in flight, 1,000 sessions, nothing is refused. {rounds}, {seconds:g} s each. The process has one core,
the store another one, both on a unix socket and with uvloop. CPU is user and system time for each decision. `limits` is
its asynchronous fixed window on redis-py: one hit for each limit, the next when the one before has passed."""


def _rates(found: Report) -> str:
    rounds = f"Medians of {found.rounds} rounds" if found.rounds > 1 else "One round"
    rows = []
    for what, buckets in dict.fromkeys((row.what, row.buckets) for row in found.rates):
        mine = [row for row in found.rates if (row.what, row.buckets) == (what, buckets)]
        rows.append([_named(what, buckets), *(f"{median(map(value, mine)):,.{digits}f}" for value, digits in _COLUMNS)])
    names = ("", "decisions/s", "CPU µs", "store µs", "round trips", "core busy %")
    return _METHOD.format(rounds=rounds, seconds=found.seconds) + "\n\n" + _table(names, rows)


_COLUMNS: tuple[tuple[Callable[[Rate], float], int], ...] = (
    (lambda row: row.rate, 0),
    (lambda row: row.cpu_us, 1),
    (lambda row: row.store_us, 1),
    (lambda row: row.calls, 2),
    (lambda row: row.busy * 100, 0),
)


def _accuracy(found: Report, accuracy: Accuracy) -> str:
    return f"""\
Accuracy: 4 processes, 200 tasks, {found.accuracy_seconds:g} s, {accuracy.decisions:,} decisions on 40 buckets, half of
them on one: {accuracy.passed:,} passed, {accuracy.refused:,} were refused. Of the bucket that was never left alone
{accuracy.left_over:.2f} tokens were left over at the end."""


def _named(what: str, buckets: int) -> str:
    kind = "bucket" if what == "sluice" else "hit"
    return f"{what}, {buckets} {kind}{'s' if buckets > 1 else ''}"


def _table(names: Sequence[str], rows: Iterator[list[str]] | list[list[str]]) -> str:
    head = ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])
