"""The values that several sections share. Durations are seconds (float), sizes are bytes (int)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Promise = Literal["memory", "second", "always", "replica"]
Preset = Literal["blazz", "body-sha256", "dotted", "waha", "standard", "key"]


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


@dataclass(frozen=True, slots=True)
class StorePolicy:
    url: str
    """`embedded`, or a redis://, rediss://, unix:// address."""
    promise: Promise
    timeout: float
    """The longest the limiter waits for the store before a limit's `when_store_away` decides."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`sluice.http.signatures` says what each preset signs, and how."""

    name: str
    preset: Preset
    secret: Secret
    """The newest; of preset `standard` the bytes that `whsec_` encodes."""
    tolerance: float
    """Seconds a signed timestamp may be off."""
    older: tuple[Secret, ...] = ()
    """Others that still prove a request while secrets are exchanged."""
    header: str = ""
    """Empty: the preset's own."""
    timestamp_header: str = ""
    prefix: str | None = None
    """What stands before the proof in its header; None: what is usual in that header."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (self.secret, *self.older)
