"""Sessions that are not well though somebody runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluice.console.messages.wording import listed, some
from sluice.console.status import FaultStatus

_WHAT = {
    "silent": "connected and silent, as they were sent something and no event of them has come since",
    "flapping": "flapping, as their connections are lost again and again",
}
_CURED = "Sluice restarts them (sessions.watch.restart)"
_CURE = "sluice sessions watch says more, and sluice sessions restart SESSION starts one anew"
_CODE = "each needs its code scanned; sluice sessions clean ends those that nobody scans"


def faults(found: Sequence[FaultStatus]) -> Iterator[str]:
    for one in found:
        what = _WHAT.get(one.kind, f"stuck at {one.kind}")
        cure = _CURED if one.restarted else _CODE if one.kind == "qr_scanning" else _CURE
        yield f"{some(one.sessions, 'session is', 'sessions are')} {what}{_examples(one)}: {cure}"


def _examples(one: FaultStatus) -> str:
    if not one.examples:
        return ""
    others = one.sessions - len(one.examples)
    return f" ({listed([*one.examples, some(others, 'other', 'others')] if others > 0 else one.examples)})"
