"""What became of stale sessions, and of Laravel's being told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sluice.console.cleanup import CleanupStatus
from sluice.console.messages.wording import age, some
from sluice.console.status import UntoldEndings

_LATE = 120.0
_UNTOLD = 30.0


def cleanup(status: CleanupStatus | None, untold: UntoldEndings | None, now: datetime) -> Iterator[str]:
    if untold is not None and untold.oldest_s >= _UNTOLD:
        yield (
            f"{some(untold.sessions, 'session was ended and Laravel has', 'sessions were ended and Laravel has')} not "
            f"been told for {age(untold.oldest_s)}, as no event of it can be stored: see whether a backlog is full"
        )
    if status is None:
        return
    if status.late_s >= _LATE:
        yield (
            f"stale sessions were to be ended {age(status.late_s)} ago, and no gateway has begun: see what the "
            "gateways' logs say of cleanup"
        )
    last = status.last
    if last is None:
        return
    if last.dry_run and status.dry_run and last.would_end:
        stale = some(last.would_end, "session is", "sessions are")
        yield (
            f"{stale} stale, and nothing is done, as sessions.cleanup.dry_run is true: sluice sessions clean "
            "--dry-run names them; take dry_run out"
        )
    for one in last.not_closed:
        ago = age(max(0.0, (now - last.at).total_seconds()))
        yield (
            f"worker {one.worker} did not close session {one.session}, which is stale, {ago} ago: see whether "
            "it answers and takes its key (sessions.workers), then sluice sessions clean"
        )
    if last.not_purged:
        of = some(last.not_purged, "session that was ended long ago waits", "sessions that were ended long ago wait")
        yield (
            f"{of} to be purged, and the vault fails ({last.why_not_purged}): a create of one that is being purged is "
            "answered 503 until it works again: sluice vault verify"
        )
