"""Whether an upstream fails for many: of what came of its requests in the last minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from gateway import metrics

ANSWERED = "answered"
_ALWAYS = 0.5
_OFTEN, _SEVERAL = 0.02, 5


def failed(outcomes: Mapping[str, int]) -> int:
    """How many of them got no answer, or one of 5xx."""
    return sum(n for outcome, n in outcomes.items() if outcome != ANSWERED)


def is_failing(outcomes: Mapping[str, int]) -> bool:
    """Half of a few, or one in fifty of many."""
    bad, total = failed(outcomes), sum(outcomes.values())
    return bad > 0 and (bad >= _ALWAYS * total or (bad >= _SEVERAL and bad >= _OFTEN * total))


class Failing:
    """Since when, as far as this process has seen."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def note(self, now: float) -> None:
        """`now` in seconds. To be called after each look at what is recent."""
        by_upstream: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (upstream, outcome), n in metrics.RECENT_REQUESTS.sums().items():
            by_upstream[upstream][outcome] = int(n)
        for upstream, outcomes in by_upstream.items():
            if is_failing(outcomes):
                metrics.upstream_fails_for(upstream, now - self._since.setdefault(upstream, now))
            elif self._since.pop(upstream, None) is not None:
                metrics.upstream_fails_for(upstream, 0.0)
