"""What a benchmark has measured, as numbers: suite.py keeps them and makes its table of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "SLUICE_BENCHMARK_FIGURES"
"""The environment variable that names the file where suite.py reads them."""


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    value: float | str
    unit: str = ""
    wanted: str = ""
    met: bool | None = None
    """None: nothing is wanted of it."""

    @classmethod
    def none_of(cls, what: str, count: int) -> Figure:
        return cls(what, count, wanted="0", met=count == 0)

    @classmethod
    def at_most(cls, what: str, value: float, most: float, unit: str = "") -> Figure:
        return cls(what, value, unit, f"at most {_written(most)}{unit and ' '}{unit}", value <= most)

    def shown(self) -> str:
        return f"{_written(self.value)}{self.unit and ' '}{self.unit}"

    def line(self) -> str:
        wanted = f" ({self.wanted})" if self.wanted else ""
        return f"{self.what}: {self.shown()}{wanted}{' MISSED' if self.met is False else ''}"


def tell(figures: Iterable[Figure]) -> int:
    """1 if a bar is missed, else 0, as the exit code of a benchmark. They are written where somebody reads them."""
    told = list(figures)
    file = os.environ.get(FILE)
    if file:
        Path(file).write_text(json.dumps([asdict(one) for one in told]))
    return int(any(one.met is False for one in told))


def _written(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
