"""How a session stands, in one vocabulary, whatever its worker calls it.

    created ──▶ starting ──▶ qr_scanning ──▶ authenticated ──▶ connected ◀──▶ disconnected
                    ▲             ▲                │                │              │
                    │             └── a new code ──┴── logged out, or connecting anew
                    └── started again ── from any of them ── and each may end as
                                                            failed      it could not go on; the reason says why
                                                            logged_out  its phone has ended it; it needs a new code

A session that is forgotten is deleted, and has no state. We look now and then, so what lies between two looks is not
seen: a move may skip states. Impossible is what can only be a late or mistaken report: nothing is ever `created` again,
and a session that its phone has ended is not merely `disconnected`.
"""

from __future__ import annotations

from typing import Final

STATES: Final = (
    "created",
    "starting",
    "qr_scanning",
    "authenticated",
    "connected",
    "disconnected",
    "logged_out",
    "failed",
)
_ANY: Final = frozenset(STATES) - {"created"}
MOVES: Final = {
    "created": _ANY,
    "starting": _ANY,
    "qr_scanning": _ANY,
    "authenticated": _ANY,
    "connected": _ANY,
    "disconnected": _ANY,
    "logged_out": _ANY - {"disconnected"},
    "failed": _ANY,
}
"""From each state to those that may follow. The scripts apply it."""
MOVES_FOR_SCRIPTS: Final = "".join(f" {a}>{b} " for a in STATES for b in sorted(MOVES[a]))

_NAMES_OF_WORKERS: Final = {
    "error": ("failed", "error"),
    "auth_failure": ("failed", "auth_failure"),
    "initializing": ("starting", ""),
    "opening": ("starting", ""),
    "reconnecting": ("disconnected", ""),
    "qr": ("qr_scanning", ""),
    "ready": ("connected", ""),
    "unknown": ("", ""),
}
_MAX_WORD: Final = 40


def state_of(word: str) -> tuple[str, str]:
    """State and reason of what a worker says; a state that is empty leaves the last one as it is."""
    if word in MOVES:
        return word, ""
    if word in _NAMES_OF_WORKERS:
        return _NAMES_OF_WORKERS[word]
    return "", f"reported as {word[:_MAX_WORD]}"
