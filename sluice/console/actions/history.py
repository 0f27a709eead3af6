"""What was counted and seen in the last hour, day or fortnight: what charts are drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sluice.console.actions.deployment import Deployment, moment
from sluice.history.charted import Series
from sluice.history.rings import OTHERS, Range, Steps, read

_QUANTILES = {"p50": 0.5, "p99": 0.99}
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class ShowHistory:
    range: Range = "hour"
    """The last hour in steps of 10 seconds, the last day of 5 minutes, or the last 14 days of an hour."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    of: str | None
    """The endpoint, upstream or limit; null: the line is of none, or of those that found no place (`others`)."""
    what: str
    values: tuple[float | None, ...]
    """Of each step; null: nobody was there to count, or there is no value."""
    others: bool = False
    """Of all that found no place: a chart holds 64 lines beside these."""


@dataclass(frozen=True, slots=True)
class History:
    """Of all processes on all machines, by the time of the store. A chart in which nothing was counted is empty."""

    range: Range
    began: datetime
    """When the first step began; each of the others began `step_s` later."""
    step_s: int
    """Seconds that a step lasts."""
    last_s: float
    """Seconds that have passed of the last step; of the hour it is over."""
    requests: tuple[Line, ...]
    """Requests answered in each step, by class of status: 2xx, 4xx …"""
    upstreams: tuple[Line, ...]
    """Requests to each upstream: answered, failed (no answer, or one of 5xx)."""
    limits: tuple[Line, ...]
    """What each limit decided: allowed, delayed, held, dropped, rejected, would_reject."""
    events: tuple[Line, ...]
    """Events for each endpoint: accepted, refused."""
    deliveries: tuple[Line, ...]
    """Attempts at each endpoint, by outcome: delivered, failed, paused, refused, rejected …"""
    waiting: tuple[Line, ...]
    """Events that wait for each endpoint; the most of the step."""
    oldest_seconds: tuple[Line, ...]
    """For how long the oldest event of each lane has been due; the longest of the step."""
    dead: tuple[Line, ...]
    """Dead letters of each endpoint; the most of the step."""
    circuits: tuple[Line, ...]
    """Of each endpoint: 0 closed, 0.5 half-open, 1 open; the worst of the step."""
    upstream_circuits: tuple[Line, ...]
    """The same of each upstream, in any process."""
    sessions: tuple[Line, ...]
    """Sessions by state, and those that nobody runs (`unowned`), at the end of the step."""
    workers: tuple[Line, ...]
    """Workers that are live, or lost for less than an hour, at the end of the step."""
    request_seconds: tuple[Line, ...]
    """From request to answer: p50 and p99 of the step, as exact as the bounds of `sluice_request_seconds`."""
    delivery_seconds: tuple[Line, ...]
    """From accept to delivery: the same, of `sluice_delivery_seconds`."""


async def show(deployment: Deployment, wanted: ShowHistory) -> History:
    """What was counted and seen in this time, step by step."""
    steps = await read(deployment.store, wanted.range)
    return History(
        wanted.range,
        moment(steps.began),
        steps.step,
        round(steps.last, 3),
        **{chart: tuple(_lines(steps, chart, _counted)) for chart in _COUNTED},
        **{chart: tuple(_lines(steps, chart, _seen)) for chart in _SEEN},
        **{chart: tuple(_quantiles(steps, chart)) for chart in _TIMED},
    )


_COUNTED = ("requests", "upstreams", "limits", "events", "deliveries")
_SEEN = ("waiting", "oldest_seconds", "dead", "circuits", "upstream_circuits", "sessions", "workers")
_TIMED = ("request_seconds", "delivery_seconds")


def _lines(steps: Steps, chart: str, value: Callable[[Steps, Values], Values]) -> Iterator[Line]:
    for series, values in sorted(_of(steps, chart)):
        others = series.of == OTHERS
        of = None if others else series.of or None
        yield Line(of, series.what, tuple(value(steps, values)), others)


def _of(steps: Steps, chart: str) -> Iterator[tuple[Series, Values]]:
    return ((series, values) for series, values in steps.series.items() if series.chart == chart)


def _counted(steps: Steps, values: Values) -> Values:
    pairs = zip(steps.attended, values, strict=True)
    return [int(value or 0) if attended else None for attended, value in pairs]


def _seen(_: Steps, values: Values) -> Values:
    return values


def _quantiles(steps: Steps, chart: str) -> Iterator[Line]:
    bounds = sorted((float(series.what), values) for series, values in _of(steps, chart))
    if not bounds:
        return
    columns = list(zip(*(values for _, values in bounds), strict=True))
    upper = [bound for bound, _ in bounds]
    for name, share in _QUANTILES.items():
        yield Line(None, name, tuple(_quantile(upper, counts, share) for counts in columns))


def _quantile(upper: Sequence[float], counts: Values, share: float) -> float | None:
    """As `histogram_quantile` of Prometheus: between the bounds in a straight line; the last bound where it is over."""
    total = sum(count or 0 for count in counts)
    if not total:
        return None
    rank, seen, lower = share * total, 0.0, 0.0
    for bound, count in zip(upper, counts, strict=True):
        if count and seen + count >= rank:
            within = lower if math.isinf(bound) else lower + (bound - lower) * (rank - seen) / count
            return round(within, 6)
        seen += count or 0
        lower = bound
    return round(lower, 6)
