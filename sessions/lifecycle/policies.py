"""`sessions.one_phone`, `cleanup`, `rebalance` and `watch` of `policies.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from sessions.lifecycle.phones import Keep
from sessions.lifecycle.stale import StaleAfter
from sluice.config import Rate, parsers, units
from sluice.config.fields import Value, section, setting
from sluice.config.parsers import choice, each
from sluice.config.problems import Malformed, quoted

Kind = Literal["silent", "flapping", "starting", "qr_scanning", "authenticated", "disconnected"]
"""Of a fault: what is wrong with a session that somebody runs. The last four: it is stuck in that state."""
KINDS: tuple[Kind, ...] = get_args(Kind)
LOSSES_KEPT = 20
_FASTEST, _SLOWEST = 0.5, 30.0

_keep: Callable[[Value], Keep] = choice("newest", "oldest", "allow")


@dataclass(frozen=True, slots=True)
class OnePhone:
    keep: Keep = setting(_keep, "newest")
    """Which of several connected sessions of one phone stays in its workspace."""
    enforce: bool = setting(parsers.boolean, False)
    """Existing workers, which know nothing of us, are asked to delete the others."""


def _time(value: Value) -> float | None:
    """`off` or a duration."""
    value.takes(parsers.pattern(f"{parsers.DURATION}|off"))
    text = value.text()
    if text == "off":
        return None
    try:
        return units.duration(text)
    except Malformed as malformed:
        raise Malformed(malformed.message, f"{malformed.hint}, or off") from None


def _within(seconds: float | None) -> float | None:
    return setting(_time, seconds)


def _losses(value: Value) -> Rate | None:
    """`off`, or how many lost connections in which time are too many. The store keeps the last twenty."""
    if value.text() == "off":
        return None
    found = parsers.rate(value)
    if found.amount > LOSSES_KEPT:
        raise Malformed(f"{quoted(value.text())} counts too far", f"write {LOSSES_KEPT} or fewer, such as 5/10 minutes")
    return found


_FIVE_IN_TEN_MINUTES: Rate | None = Rate(5, 600.0)
_kind: Callable[[Value], Kind] = choice(*KINDS)


@dataclass(frozen=True, slots=True)
class Watch:
    """Seconds; None: it is not watched. What is wrong for longer is told, and restarted where `restart` says so."""

    silent: float | None = _within(1800.0)
    """Connected, and no event came since a send that should have brought one."""
    flapping: Rate | None = setting(_losses, _FIVE_IN_TEN_MINUTES)
    """Its connection was lost so often."""
    starting: float | None = _within(600.0)
    """So long without a code or a connection since its start."""
    qr_scanning: float | None = _within(None)
    """So long at a code that nobody scanned."""
    authenticated: float | None = _within(300.0)
    """So long between the code and the connection."""
    disconnected: float | None = _within(600.0)
    """Its worker runs it and does not connect it again."""
    restart: tuple[Kind, ...] = setting(each(_kind), ())
    """What a restart shall cure."""
    restarts: Rate = setting(parsers.rate, Rate(3, 3600.0))
    """The most of each session."""

    def bound(self, kind: Kind) -> float | None:
        """Seconds after which it is a fault; None: it is not watched."""
        if kind == "flapping":
            return None if self.flapping is None else self.flapping.period
        found: float | None = getattr(self, kind)
        return found

    @property
    def every(self) -> float:
        """Seconds between two looks: a twentieth of the shortest time, so that each is found about when it is due."""
        bounds = [bound for bound in map(self.bound, KINDS) if bound is not None]
        return min(max(min(bounds, default=_SLOWEST) / 20, _FASTEST), _SLOWEST)


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Seconds. What is in a state for longer is ended; what is ended for longer than `purge` is forgotten."""

    every: float = setting(parsers.duration, 3600.0)
    """From one run to the next."""
    qr_scanning: float = setting(parsers.duration, 1800.0)
    """Also of one that starts, or that is authenticated."""
    disconnected: float = setting(parsers.duration, 86400.0)
    """Also of one that its phone has logged out."""
    failed: float = setting(parsers.duration, 86400.0)
    """After which one that failed is ended."""
    orphaned: float = setting(parsers.duration, 7 * 86400.0)
    """Nobody runs it, whatever its state was, and nobody has asked for it: no create, and no list of Laravel's."""
    purge: float = setting(parsers.duration, 30 * 86400.0)
    """After which one that was ended is forgotten."""
    at_once: int = setting(parsers.count, 100)
    """The most that one run ends."""
    dry_run: bool = setting(parsers.boolean, False)
    """The log says what would be ended."""

    @property
    def stale_after(self) -> StaleAfter:
        return StaleAfter(
            {
                **dict.fromkeys(("starting", "qr_scanning", "authenticated"), self.qr_scanning),
                **dict.fromkeys(("disconnected", "logged_out"), self.disconnected),
                "failed": self.failed,
            }
        )


SHORTEST_QUIET = 3.0
"""Seconds: gateways tell each second which sessions are busy."""


def _quiet(value: Value) -> float:
    seconds = parsers.duration(value)
    if seconds < SHORTEST_QUIET:
        raise Malformed(f"{quoted(value.text())} is too short", "write 3s or more")
    return seconds


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Sessions go from full workers of ours to empty ones, without haste."""

    moves: Rate = setting(parsers.rate, Rate(6, 60.0))
    """Of all of them together, so often at most."""
    quiet: float = setting(_quiet, 30.0)
    """Seconds for which nothing was asked of a session that moves, and nothing came from it."""


def one_phone(value: Value) -> OnePhone:
    """Also the word alone: `one_phone: newest`."""
    return section(OnePhone)(value) if value.is_mapping else OnePhone(_keep(value))
