"""How numbers, times and lists are put in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from relay.policies import OUTBOX

SENDS_CURE = "raise the rate of the limits that keep them (over: queue), or relay.backlog"  # where the outbox is full


def age(seconds: float) -> str:
    """`12s`, `3m 5s`, `2h 10m`, `3d 4h`."""
    whole = max(0, round(seconds))
    for unit, size, rest, rest_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            small = whole % size // rest_size
            return f"{whole // size}{unit} {small}{rest}" if small else f"{whole // size}{unit}"
    return f"{whole}s"


def some(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def things(endpoint: str, number: int, one: str, many: str) -> str:
    """What an endpoint's queue holds: `2 events wait`; of the outbox `2 sends wait`."""
    noun = "send" if endpoint == OUTBOX else "event"
    return f"{number} {noun} {one}" if number == 1 else f"{number} {noun}s {many}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def size(number: float) -> str:
    """Of bytes: `512 B`, `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"


def each_minute(per_second: float) -> str:
    return f"{per_second * 60:,.0f} a minute"
