"""One phone, one connected session in a workspace: which of several stays. Pure.

WhatsApp itself lets a phone have several linked devices, but Laravel's table has one row for a phone: its session_ready
removes every other row of that phone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Keep = Literal["newest", "oldest", "allow"]
_CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class OfPhone:
    """A session, as far as this decision needs it."""

    session: str
    workspace: str
    phone: str
    """Digits only; empty: it has none, and is compared with nobody."""
    state: str
    since: float
    """Of its state, seconds since 1970. Those that are equal are told apart by `order`."""
    order: int = 0


def superseded(sessions: Iterable[OfPhone], keep: Keep) -> dict[str, str]:
    """Session → the one of its phone that stays in its place. Who is connected stays before anybody else; `allow`:
    all that are connected stay."""
    by_phone: dict[tuple[str, str], list[OfPhone]] = defaultdict(list)
    for one in sessions:
        if one.phone:
            by_phone[one.workspace, one.phone].append(one)
    found: dict[str, str] = {}
    for several in by_phone.values():
        connected = [one for one in several if one.state == _CONNECTED]
        stays = _chosen(connected or several, keep)
        for one in several:
            if one is not stays and not (keep == "allow" and (one in connected or not connected)):
                found[one.session] = stays.session
    return found


def _chosen(several: list[OfPhone], keep: Keep) -> OfPhone:
    ordered = sorted(several, key=lambda one: (one.since, one.order))
    return ordered[0] if keep == "oldest" else ordered[-1]


def digits(phone: str) -> str:
    """`+49 151 2345` and `491512345@c.us` as `491512345`."""
    return "".join(digit for digit in phone.partition("@")[0].partition(":")[0] if digit in "0123456789")
