"""What an existing worker that is being started runs before it is told what to start: sessions that were created on it
meanwhile. Told of these, too, it would open a second browser of each."""

from __future__ import annotations

from sessions.asking import Asking, NoAnswer
from sessions.policies import ExistingWorker

_WITHIN = 1.0
"""Seconds for each of both answers."""
_STATS = "/cleanup/stats"
_NOT_YET = 503
"""A worker's answer to that until it has begun with all that it was told of."""


async def begun_at(worker: ExistingWorker) -> frozenset[str]:
    """What it lists. Nothing where it does not answer, nor where a process answers that was told before: what that one
    runs ends with it, and is to be started by the one that asks."""
    asking = Asking(worker, _WITHIN)
    try:
        if (await asking.call("GET", _STATS)).status != _NOT_YET:
            return frozenset()
        return frozenset((await asking.ask()).listed.sessions)
    except NoAnswer:
        return frozenset()
    finally:
        await asking.close()
