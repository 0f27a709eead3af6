"""Every worker and every gateway is restarted under load, one after the other, as an upgrade does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.nemesis import history
from tests.nemesis.checker import Entry, Verdict, check
from tests.nemesis.fleet import EXISTING, OWN, Fleet, fleet
from tests.nemesis.load import requesting
from tests.nemesis.run import created, noted_twice, quiet
from tests.waiting import until

_BETWEEN = 1.0  # seconds
_BACK_WITHIN = 30.0
_AFTER_THE_HOLD = 503
"""What requests get whose only worker is away, or has not restored their session yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    failed: tuple[str, ...]
    """Requests that were answered otherwise than they should."""
    longest: float
    """Seconds that a request of an own worker's session took."""
    seconds: float


async def rolling(
    folder: Path, free_port: Callable[[], int], *, longest_gap: float, own: int = 30, existing: int = 30
) -> Outcome:
    """`own` and `existing`: how many sessions of each kind. Raises AssertionError when one does not come back."""
    async with fleet(folder, free_port, accounts=existing) as made:
        sessions = await created(made, own)
        began = time.monotonic()
        async with requesting(made, sessions) as clients:
            await asyncio.sleep(_BETWEEN)
            await _restarted(made)

            async def back(session: str) -> bool:
                return await clients.ask("GET", f"/api/sessions/{session}/metadata") == 200

            for session in (*sessions, *made.accounts):
                await until(lambda one=session: back(one), timeout=_BACK_WITHIN, what=f"{session} to be back")
        await quiet(made)
        noted_twice(made)
        seconds = time.monotonic() - began
    entries = history.read(folder / "history")
    verdict = check(entries, longest_gap=longest_gap, own=sessions)
    return Outcome(verdict, tuple(_failed(entries, sessions)), _longest(entries, sessions), seconds)


async def _restarted(made: Fleet) -> None:
    for name in OWN:
        await made.own[name].terminate()
        await made.own[name].start()
        await made.own_is_back(name)
        await asyncio.sleep(_BETWEEN)
    for name in EXISTING:
        await made.existing[name].terminate()
        await made.existing[name].start()
        await made.restored(name)
        await asyncio.sleep(_BETWEEN)
    for number, process in enumerate(made.gateway_processes):
        await process.terminate()
        await process.start()
        await made.gateway_answers(number)
        await asyncio.sleep(_BETWEEN)


def _failed(entries: Sequence[Entry], own: Sequence[str]) -> list[str]:
    """A session of an own worker is always answered; one whose only worker is away is refused for a while at most."""
    ours = frozenset(own)
    return [
        f"{entry['session']}: answered {entry['status']} after {entry['at'] - entry['began']:.2f} s"
        for entry in entries
        if entry["kind"] == "answer"
        and entry["status"] != 200
        and (entry["session"] in ours or entry["status"] != _AFTER_THE_HOLD)
    ]


def _longest(entries: Sequence[Entry], own: Sequence[str]) -> float:
    ours = frozenset(own)
    took = [one["at"] - one["began"] for one in entries if one["kind"] == "answer" and one["session"] in ours]
    return max(took, default=0.0)
