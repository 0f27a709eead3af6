"""Rings of steps in the store: the last hour in steps of 10 s, the last day of 5 min, the last 14 days of 1 h.

Every process adds what it has counted itself, so a counter that begins again at 0 is nowhere seen, and those of several
processes and machines add up. What only the store knows is looked at by one gateway in each step. The steps are those
of the time of the scripts, so they are the same on all machines and never run back.

Bounded: `MAX_SERIES` series of a chart, and beyond them one for all others; a step holds a number for each.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from sluice.history.charted import Series
from sluice.store import clock
from sluice.store.client import Arg, Call, Store, load_script

Range = Literal["hour", "day", "14d"]
Rule = Literal["sum", "max", "last"]
"""What becomes of several values of one step."""


class Ring(NamedTuple):
    key: str
    step: int
    """Seconds."""
    length: int
    """Steps; the one that has begun is the last."""


RINGS: Final[Mapping[Range, Ring]] = {
    "hour": Ring("sl:{history}:hour", 10, 361),
    "day": Ring("sl:{history}:day", 300, 288),
    "14d": Ring("sl:{history}:fortnight", 3600, 336),
}
STEP: Final = 10.0
MAX_SERIES: Final = 64
"""Of one chart, beside those of the others."""
OTHERS: Final = "*"
"""Of which a series is that has the values of all that found no place; no name of the policies is like it."""
_SERIES, _WRITERS = "sl:{history}:series", "sl:{history}:writers"
KEY_PATTERNS = (*(ring.key for ring in RINGS.values()), _SERIES, _WRITERS)
_NOTE = load_script("sluice.history", "note", drains=True)
_KEYS: Final = [*(ring.key for ring in RINGS.values()), _SERIES, _WRITERS]
_SHAPES: Final = [part for ring in RINGS.values() for part in (ring.step * 1000, ring.length)]


@dataclass(frozen=True, slots=True)
class Value:
    rule: Rule
    series: Series
    value: float


@dataclass(frozen=True, slots=True)
class Noted:
    next_step: float
    """Seconds until the next step of the shortest ring begins."""
    looks: bool
    """Nobody else has been asked in this step to look at what only the store knows."""


def note(process: str, number: int, age: float, values: Iterable[Value], *, can_look: bool = False) -> Call:
    """Adds a part of what a process has counted. `noted` reads the answer.

    Numbers of a process rise from 1 on; one that was added is not added again. `age` in seconds.
    """
    args: list[Arg] = [process, number, round(age * 1000), int(can_look), MAX_SERIES, *_SHAPES]
    for one in values:
        chart, of, what = one.series
        args += (one.rule, f"{chart}\0{of}\0{what}", f"{chart}\0{OTHERS}\0{what}", repr(float(one.value)))
    return Call(_NOTE, _KEYS, args)


def noted(answer: Sequence[int]) -> Noted:
    return Noted(answer[0] / 1000, bool(answer[1]))


@dataclass(frozen=True, slots=True)
class Steps:
    """Of one ring, the oldest step first."""

    began: float
    """Of the first step, unix seconds."""
    step: int
    """Seconds."""
    last: float
    """Seconds that have passed of the last step."""
    attended: Sequence[bool]
    """Of each step: some process was there to count."""
    series: Mapping[Series, Sequence[float | None]]
    """None: there is no value."""


async def read(store: Store, name: Range) -> Steps:
    """Of the hour only steps that are over, of the others also the one under way. Raises StoreAway or StoreRefused."""
    ring = RINGS[name]
    looked, rows, names = await store.run_all([clock.look(ring.key)], [("HGETALL", ring.key), ("HGETALL", _SERIES)])
    now = clock.seconds(looked)
    newest = int(now // ring.step)
    first, last = newest - ring.length + 1, newest - (name == "hour")
    by_step = {int(row[0]): row for row in map(_row, rows[1::2]) if first <= row[0] <= last}
    width = max(map(len, by_step.values()), default=1)
    nobody = (math.nan,) * width
    columns = list(zip(*(_padded(by_step.get(step, nobody), nobody) for step in range(first, last + 1)), strict=True))
    series = {}
    for written, place in zip(names[::2], names[1::2], strict=True):
        number = int(place.split()[0])
        values = [None if value != value else value for value in columns[number]] if number < width else []
        if values.count(None) < len(values):
            series[Series(*written.decode().split("\0"))] = values
    return Steps(
        began=float(first * ring.step),
        step=ring.step,
        last=now - last * ring.step if name != "hour" else float(ring.step),
        attended=[step in by_step for step in range(first, last + 1)],
        series=series,
    )


def _row(packed: bytes) -> tuple[float, ...]:
    """The step, and the value of each series by its number; not a number: none."""
    return struct.unpack(f"<{len(packed) // 8}d", packed)


def _padded(row: tuple[float, ...], nobody: tuple[float, ...]) -> tuple[float, ...]:
    return row if len(row) == len(nobody) else row + nobody[: len(nobody) - len(row)]
