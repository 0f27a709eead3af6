"""What of the counters is charted. Each room says it beside its metrics; nothing here costs a request anything.

A chart has series, each about one thing (`of`: an endpoint, a limit …; empty: all of them) and one side of it (`what`:
delivered, refused …). Names come from the policies and from us, never from a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sluice.observe import tallies
from sluice.observe.recent import Labels
from sluice.observe.tallies import Counts, Histograms

Fold = Callable[[Labels], tuple[str, str] | None]
"""From the labels of a counter to `of` and `what`; None: it is not charted."""


class Series(NamedTuple):
    chart: str
    of: str
    what: str


Totals = dict[Series, float]
_counts: list[tuple[str, Counts, Fold]] = []
_histograms: list[tuple[str, Histograms]] = []


def chart(name: str, counts: Counts, fold: Fold) -> None:
    _counts.append((name, counts, fold))


def chart_seconds(name: str, histograms: Histograms) -> None:
    """All that it observed, whatever the labels: a series for each bound, of what was not over it and over the last."""
    _histograms.append((name, histograms))


def totals() -> Totals:
    """What this process has counted of everything that is charted, since it was started."""
    tallies.flush()
    found: Totals = {}
    for series, n in _all():
        found[series] = found.get(series, 0) + n
    return found


def _all() -> Iterator[tuple[Series, float]]:
    for name, counts, fold in _counts:
        for labels, n in counts.totals.items():
            folded = fold(labels)
            if folded is not None:
                yield Series(name, *folded), n
    for name, histograms in _histograms:
        for bound, n in histograms.totals.items():
            yield Series(name, "", f"{bound:g}"), n


def grown(before: Totals, after: Totals) -> Totals:
    """Of two totals of one process: what came between them, where anything did."""
    grown = {series: n - before.get(series, 0) for series, n in after.items()}
    return {series: n for series, n in grown.items() if n}
