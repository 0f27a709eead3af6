"""What several processes let pass, held against an exact bucket. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger import TOLERANCE, Ledger


@dataclass(frozen=True, slots=True)
class Seen:
    """A decision as its process saw it; seconds of the machine's one monotonic clock."""

    subject: int
    asked: float
    answered: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Accuracy:
    decisions: int
    passed: int
    refused: int
    over_by_clock: float
    """Tokens by which some bucket passed more than burst + rate x the time between the first request and the last
    answer, by the store's clock. 0 or less: it kept within."""
    over_in_window: int
    """Tokens by which buckets passed more than that in some shorter window."""
    wrongly_refused: int
    left_over: float
    """Of the subject that was never left alone: tokens that were there and that nobody got. About 0 is right."""

    @property
    def share_wrongly_refused(self) -> float:
        return self.wrongly_refused / self.refused if self.refused else 0.0


def judged(seen: Sequence[Seen], rate: float, burst: float, elapsed: float) -> Accuracy:
    """`elapsed` in seconds of the store's clock, from before the first request to after the last answer."""
    begin = min(one.asked for one in seen)
    ledgers = {subject: Ledger(rate, burst, begin, full=True) for subject in {one.subject for one in seen}}
    passed = dict.fromkeys(ledgers, 0)
    wrong = 0
    flights = {}
    for _, step, number in _steps(seen):
        one = seen[number]
        ledger = ledgers[one.subject]
        if step == 0:
            flights[number] = ledger.send(one.asked, int(one.passed))  # it is known that the others will take nothing
        elif one.passed:
            passed[one.subject] += 1
            ledger.passed(flights.pop(number), one.answered)
        else:
            ledger.gave_back(flights.pop(number))
            wrong += ledger.had(one.asked, 1)
    total = sum(passed.values())
    allowed = burst + rate * elapsed
    return Accuracy(
        decisions=len(seen),
        passed=total,
        refused=len(seen) - total,
        over_by_clock=max(count - allowed for count in passed.values()),
        over_in_window=sum(math.ceil(ledger.over - TOLERANCE) for ledger in ledgers.values()),
        wrongly_refused=wrong,
        left_over=allowed - passed[0],
    )


def _steps(seen: Sequence[Seen]) -> Iterable[tuple[float, int, int]]:
    """Asked (0) and answered (1), in the order of time; of two at the same moment the asking first."""
    asked = ((one.asked, 0, number) for number, one in enumerate(seen))
    answered = ((one.answered, 1, number) for number, one in enumerate(seen))
    return sorted([*asked, *answered])
