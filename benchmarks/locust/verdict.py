"""What a load test found, in lines for people, and whether that is good enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latency import Histogram
from policies import Limit
from run import Run

MAX_WRONGLY_REFUSED = 0.001
"""Of all refusals that can be judged."""


@dataclass(frozen=True, slots=True)
class Verdict:
    lines: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def code(self) -> int:
        return 1 if self.failures else 0

    def __str__(self) -> str:
        ends = [f"FAILED    {failure}" for failure in self.failures] or ["PASSED"]
        return "\n".join([*self.lines, *ends]) + "\n"


def verdict(run: Run, p95: float) -> Verdict:
    """`p95` in seconds: the most that the 95th percentile of latency may be, from the moment a request was due."""
    return Verdict(tuple(_lines(run)), tuple(_failures(run, p95)))


def _lines(run: Run) -> Iterator[str]:
    counts, found = run.counts, run.oracle.findings
    yield from _limits(run.policies.limits)
    yield (
        f"answers   {found.passed:,} passed, {found.refused:,} refused by a limit, "
        f"{found.not_judged:,} refused in a way that cannot be judged"
    )
    for what, number in counts.unexpected.most_common(3):
        yield f"          {number:,} times {what}"
    yield (
        f"oracle    {run.oracle.over_admitted:,} over-admitted, "
        f"{found.wrongly_refused:,} wrongly refused ({_share(found.wrongly_refused, found.refused):.2%})"
    )
    if found.waits_kept or found.waits_broken:
        kept, broken = f"{found.waits_kept:,}", f"{found.waits_broken:,}"
        yield f"waits     {kept} passed after the wait that a refusal said, {broken} did not"
    yield from (f"          {told}" for told in found.told.values())
    yield f"since due {_percentiles(counts.since_due)}"
    yield f"  waited  {_percentiles(counts.waited)}"
    yield f"  served  {_percentiles(counts.served)}"
    if counts.never_sent:
        yield f"          {counts.never_sent:,} were due and never sent: the answers before them took too long"


def _limits(limits: Sequence[Limit]) -> Iterator[str]:
    lenient = [
        limit.id for limit in limits if limit.judged and (limit.over == "queue" or limit.observed or limit.partly)
    ]
    strict = [limit.id for limit in limits if limit.judged and limit.id not in lenient]
    yield f"limits    held to what may pass: {', '.join(strict) or 'none'}"
    if lenient:
        yield f"          let more pass, as they say (queue, observe, enforce): {', '.join(lenient)}"
    yield from (f"          not judged: {limit.id}, {limit.unclear}" for limit in limits if limit.unclear)


def _failures(run: Run, p95: float) -> Iterator[str]:
    counts, found = run.counts, run.oracle.findings
    if run.oracle.over_admitted:
        yield f"{run.oracle.over_admitted:,} over-admitted, none allowed"
    wrong = _share(found.wrongly_refused, found.refused)
    if wrong > MAX_WRONGLY_REFUSED:
        yield f"{wrong:.2%} of the refusals were wrong, at most {MAX_WRONGLY_REFUSED:.1%} allowed"
    if found.waits_broken:
        yield f"{found.waits_broken:,} refused again after the wait that a refusal said, none allowed"
    if counts.failed:
        each = ", ".join(f"{number:,} times {status}" for status, number in sorted(counts.failed.items()))
        yield f"{counts.failed.total():,} answers 5xx, none allowed ({each})"
    if counts.unanswered:
        yield f"{counts.unanswered:,} requests without an answer, none allowed"
    if not found.passed:
        yield "nothing passed, so nothing was tested"
    if counts.since_due.at(0.95) > p95:
        yield f"p95 {counts.since_due.at(0.95) * 1000:,.0f} ms since due, at most {p95 * 1000:,.0f} ms allowed (--p95)"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _percentiles(times: Histogram) -> str:
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    told = [f"{name} {times.at(share) * 1000:,.1f} ms" for share, name in shares]
    return ", ".join([*told, f"longest {times.longest * 1000:,.1f} ms"])
