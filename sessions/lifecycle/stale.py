"""When a session that does not run is of no use any more. Pure; what is connected is never stale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_FOR = MappingProxyType(
    {
        "created": 30 * _MINUTE,
        "starting": 30 * _MINUTE,
        "pending": 30 * _MINUTE,
        "qr_scanning": 30 * _MINUTE,
        "authenticated": 30 * _MINUTE,
        "disconnected": _DAY,
        "logged_out": _DAY,
        "failed": _DAY,
    }
)


@dataclass(frozen=True, slots=True)
class StaleAfter:
    """Seconds in a state, after which a session is stale."""

    of: Mapping[str, float] = field(default_factory=lambda: _FOR)

    def why(self, state: str, seconds: float | None) -> str | None:
        """In words; None: it is not, or nobody knows for how long it has been in that state."""
        bound = self.of.get(state)
        if bound is None or seconds is None or seconds < bound:
            return None
        return f"{state} for {spell(seconds)}"


def spell(seconds: float) -> str:
    """`4d`, `3h` or `31m`: rounded down."""
    for unit, length in (("d", _DAY), ("h", _HOUR)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds // _MINUTE)}m"
