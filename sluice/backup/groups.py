"""Which keys a backup has, which of them are read at one moment, and in which order.

Keys with the same hash tag that speak of each other are of one moment; the rest is read key by key. What a person or
Laravel is still to be told stands before where it is told, so that it is told twice rather than not at all
(docs/decisions/0028). Pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from gateway.alerts import board
from gateway.limits import peers
from relay import presence
from relay.queue import layout
from sessions import divided, registry, shifting
from sessions.lifecycle import election
from sessions.profiles import generations, migrated, troubles
from sluice.history import rings
from sluice.store import clock, restoring

ALIVE = frozenset({peers.KEY_PATTERNS[0], presence.KEY_PATTERNS[0]})
"""Which gateways and relays are: they are there while one is."""
LEFT_OUT = ALIVE | {clock.KEY_PATTERNS[1], restoring.KEY}
"""What is only true for a moment."""
_WHOLE = (board, divided, election, generations, migrated, registry, rings, shifting, troubles)
PARTITIONS = tuple(f"{partition:02d}" for partition in range(layout.PARTITIONS))
VAULT = "vault:"
_AFTER = ("out:", "receipts:", "send:", "sent:")
"""Tags of what is known of sends: later than the queue, so that a send that went out meanwhile is known as sent."""
_NEWEST = re.compile(rb"sl:\{\d\d\}:[^:]+:newest:")
_TAG = re.compile(rb"\{([^}]*)\}")
HASHES = frozenset({"events", "bodies"})
"""The last words of the keys in a partition whose values never change under a field."""


def _fixed() -> dict[str, tuple[str, ...]]:
    found = defaultdict[str, list[str]](list)
    for key in (key for module in _WHOLE for key in module.KEY_PATTERNS):
        found[tag_of(key.encode())].append(key)
    return {tag: tuple(keys) for tag, keys in found.items()}


def tag_of(key: bytes) -> str:
    """What decides its slot."""
    found = _TAG.search(key)
    return (found[1] if found and found[1] else key).decode()


FIXED = _fixed()
"""By tag the keys of what is read at one moment: whether a scan has met one or not, it may be there by then."""


class Groups:
    """Of the names that a scan has met."""

    def __init__(self, names: Iterable[bytes]) -> None:
        self.vault: set[bytes] = set()
        """Contents of logins, a hash each."""
        self.before: list[bytes] = []
        self.after: list[bytes] = []
        self._whole = defaultdict[str, set[bytes]](set)
        for name in names:
            if name.decode() not in LEFT_OUT:
                self._add(name)

    def _add(self, name: bytes) -> None:
        tag = tag_of(name)
        if tag.startswith(VAULT) and not name.startswith(b"sl:clock:"):
            self.vault.add(name)
        elif (tag in FIXED or tag in PARTITIONS) and not _NEWEST.match(name):
            self._whole[tag].add(name)
        else:
            (self.after if tag.startswith(_AFTER) else self.before).append(name)

    def whole(self, tag: str, endpoints: Iterable[str] = ()) -> list[bytes]:
        """All keys of this tag, those that were met and those that may be there now. `endpoints`: of a partition."""
        names = {*self._whole[tag], *(key.encode() for key in FIXED.get(tag, ()))}
        if tag in PARTITIONS:
            partition = int(tag)
            of_all = [*layout.shared_keys(partition), layout.endpoints_key(partition), layout.fences_key(partition)]
            own = [key for endpoint in endpoints for key in layout.own_keys(endpoint, partition)]
            names |= {key.encode() for key in (*of_all, *own)}
        return sorted(names)


def is_hash(name: bytes) -> bool:
    """Whether it is one whose fields are read page by page."""
    tag, last = tag_of(name), name.rpartition(b":")[2].decode()
    return tag in PARTITIONS and last in HASHES


_FAMILIES = (
    ("logins", ("vault", "vault:")),
    ("sessions", ("sessions", "passed:", "sent:")),
    ("sends", ("out:", "send:", "receipts:")),
    ("limits", ("l", "l:")),
    ("history", ("history",)),
    ("alerts", ("alerts",)),
    ("events", PARTITIONS),
)


def family(name: bytes) -> str:
    """What a person calls it."""
    if name.startswith(b"sl:clock:"):
        return "clocks"
    if name.endswith(b":circuit"):
        return "circuits"
    tag = tag_of(name)
    for called, tags in _FAMILIES:
        if any(tag == one or (one.endswith(":") and tag.startswith(one)) for one in tags):
            return called
    return "others"
