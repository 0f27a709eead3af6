"""`sessions.one_phone` and `sessions.cleanup` of `policies.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sessions.lifecycle.phones import Keep
from sessions.lifecycle.stale import StaleAfter
from sluice.config import parsers
from sluice.config.fields import Value, section, setting
from sluice.config.parsers import choice

_keep: Callable[[Value], Keep] = choice("newest", "oldest", "allow")


@dataclass(frozen=True, slots=True)
class OnePhone:
    keep: Keep = setting(_keep, "newest")
    """Which of several connected sessions of one phone stays in its workspace."""
    enforce: bool = setting(parsers.boolean, False)
    """Existing workers, which know nothing of us, are asked to delete the others."""


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Seconds. What is in a state for longer is ended; what is ended for longer than `purge` is forgotten."""

    every: float = setting(parsers.duration, 3600.0)
    qr_scanning: float = setting(parsers.duration, 1800.0)
    """Also of one that starts, or that is authenticated."""
    disconnected: float = setting(parsers.duration, 86400.0)
    """Also of one that its phone has logged out."""
    failed: float = setting(parsers.duration, 86400.0)
    purge: float = setting(parsers.duration, 30 * 86400.0)
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


def one_phone(value: Value) -> OnePhone:
    """Also the word alone: `one_phone: newest`."""
    return section(OnePhone)(value) if value.is_mapping else OnePhone(_keep(value))
