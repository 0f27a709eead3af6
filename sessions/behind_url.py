"""How many processes answer at one address, from when each answer says that its process began. Pure.

    one process       A A A A A
    started again     A A B B B      never A again: it is gone
    several           A B A          whoever answered before, answers again

A process's start is our time less the `uptime` of its `/health`, known as exactly as the answer was quick. Where there
is no uptime, or all began in one moment, what they list tells them apart: one process does not go back to a former list
again and again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

KEPT = 24
"""Samples that are looked at: a minute and more."""
_DRIFT = 0.25
"""Seconds by which two clocks may differ more or less than before, over so many samples."""
_RETURNS = 4
"""So often a minute nobody deletes and creates a session by hand."""
_LONGEST = 1e9


@dataclass(frozen=True, slots=True)
class Began:
    """Between these two moments, in seconds of our monotonic clock."""

    earliest: float
    latest: float


def began(sent: float, answered: float, uptime: object) -> Began | None:
    """None: this is no uptime in seconds."""
    if isinstance(uptime, bool) or not isinstance(uptime, int | float):
        return None
    if not math.isfinite(uptime) or not 0 <= uptime <= _LONGEST:
        return None
    # Whole seconds may have been cut off or rounded.
    less, more = (1.0, 0.5) if float(uptime).is_integer() else (0.0, 0.0)
    return Began(sent - uptime - less, answered - uptime + more)


def several_began(samples: Sequence[Began]) -> bool:
    """Whether a process answered again after another one had answered in between."""
    processes: list[Began] = []
    current = -1
    for sample in samples:
        # A slow answer may be of several of them: it shows nothing where it may be of the one that answered last.
        found = next((i for i in range(current, -1, -1) if _may_be_one(processes[i], sample)), -1)
        if found < 0:
            current = len(processes)
            processes.append(sample)
            continue
        if found != current:
            return True
        known = processes[found]
        processes[found] = Began(max(known.earliest, sample.earliest), min(known.latest, sample.latest))
    return False


def several_list(lists: Sequence[int]) -> bool:
    """The same by what they list, of which each number stands for one set of sessions."""
    returns = sum(1 for i in range(2, len(lists)) if lists[i] != lists[i - 1] and lists[i] in lists[: i - 1])
    return returns >= _RETURNS


def _may_be_one(one: Began, other: Began) -> bool:
    return one.earliest - _DRIFT <= other.latest and other.earliest - _DRIFT <= one.latest
