"""One set of X-RateLimit-* for a client, where an upstream with a limiter of its own says them as well. No I/O.

Whoever has fewer left decides when the client may come again, so those go out, as a whole; where both have as many,
the upstream's, whose 429 may come with more (X-RateLimit-Reset). RateLimit and RateLimit-Policy are lists whose members
have names (RFC 9651): those of both go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sluice.http.fields import Fields

_PREFIX: Final = b"X-RateLimit-"
_REMAINING: Final = b"X-RateLimit-Remaining: "
_LARGEST: Final = 15  # digits


def without_the_looser(ours: Sequence[bytes], theirs: Fields) -> tuple[bool, Sequence[bytes]]:
    """Whether the upstream's X-RateLimit-* stay, and which of our field lines do. `theirs` has some."""
    mine = next((line for line in ours if line.startswith(_REMAINING)), None)
    if mine is None:
        return True, ours
    left = _number(mine[len(_REMAINING) :])
    said = [_number(field.value) for field in theirs.all if field.key == b"x-ratelimit-remaining"]
    if len(said) == 1 and 0 <= said[0] <= left:
        return True, [line for line in ours if not line.startswith(_PREFIX)]
    return False, ours


def _number(text: bytes) -> int:
    """-1: none that counts."""
    digits = text.strip()
    return int(digits) if digits.isdigit() and len(digits) <= _LARGEST else -1
