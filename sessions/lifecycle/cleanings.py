"""What the runs of the cleaner have done, and when the next one is: kept beside the election of who does it."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from sessions.lifecycle.election import CLEANER
from sluice.store.client import Store, load_script

_LAST = load_script("sessions.lifecycle", "last")


@dataclass(frozen=True, slots=True)
class NotClosed:
    """A stale session that its existing worker did not close."""

    session: str
    worker: str


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did. With `dry_run` nothing was done, and `would_end` says how many it would have ended."""

    by: str = ""
    """The process that did it."""
    dry_run: bool = False
    ended: int = 0
    would_end: int = 0
    more: bool = False
    """It ended as many as it may; others are stale."""
    not_closed: tuple[NotClosed, ...] = ()
    """One of each worker that did not close one."""
    purged: int = 0
    not_purged: int = 0
    """Sessions that are being purged, and wait for the vault."""
    why_not_purged: str = ""


@dataclass(frozen=True, slots=True)
class Cleanings:
    """Moments are unix seconds."""

    now: float
    by: str
    """Who cleans just now; empty: nobody."""
    due: float | None
    """When the next run is due; None: at once."""
    at: float | None
    """When the last run ended; None: there was none."""
    last: Run | None


async def cleanings(store: Store) -> Cleanings:
    """Raises StoreAway or StoreRefused."""
    now, by, due, at, last = await store.run(_LAST, (CLEANER,), ())
    return Cleanings(int(now) / 1000, by.decode(), _moment(due), _moment(at), _run_of(last))


def _moment(ms: bytes) -> float | None:
    return float(ms) / 1000 if ms else None


def _run_of(text: bytes) -> Run | None:
    if not text:
        return None
    said = orjson.loads(text)
    not_closed = tuple(NotClosed(**one) for one in said.pop("not_closed"))
    return Run(**said, not_closed=not_closed)
