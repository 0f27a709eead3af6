"""The values that several sections share. Durations are seconds (float), sizes are bytes (int)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Secret:
    """A value that never shows itself: not in `repr`, not in a log, not in an error. `reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` events in each `period` seconds, refilled evenly."""

    amount: int
    period: float

    @property
    def interval(self) -> float:
        """Seconds for one event."""
        return self.period / self.amount

    def __str__(self) -> str:
        return f"{self.amount}/{self.period:g}s"


@dataclass(frozen=True, slots=True)
class Listen:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Snapshot(Protocol):
    """Policies that came from a file."""

    @property
    def source(self) -> Path: ...
    @property
    def revision(self) -> str: ...
    @property
    def data(self) -> Path: ...
