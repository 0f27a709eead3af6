"""What the page of metrics says of stale sessions: when they were last ended, and what came of it."""

from __future__ import annotations

from sessions.lifecycle.cleanings import Cleanings
from sessions.registry import Summary

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sluice_sessions_ended": ("Sessions that are kept and run by nobody until they are created or restored.", ()),
    "sluice_cleanup_last_timestamp_seconds": ("When stale sessions were last looked for, unix time.", ()),
    "sluice_cleanup_due_timestamp_seconds": ("When they are looked for the next time, unix time.", ()),
    "sluice_cleanup_last_sessions": ("Sessions of the last run, by what came of them.", ("outcome",)),
}


def values(summary: Summary | None, seen: Cleanings | None) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    """By name, with the values of its labels."""
    found: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    if summary is not None:
        found["sluice_sessions_ended"] = [((), summary.ended)]
    if seen is not None and seen.due is not None:
        found["sluice_cleanup_due_timestamp_seconds"] = [((), seen.due)]
    if seen is not None and seen.at is not None and seen.last is not None:
        run = seen.last
        found["sluice_cleanup_last_timestamp_seconds"] = [((), seen.at)]
        found["sluice_cleanup_last_sessions"] = [
            (("ended",), run.ended),
            (("would_end",), run.would_end),
            (("not_closed",), len(run.not_closed)),
            (("purged",), run.purged),
            (("not_purged",), run.not_purged),
        ]
    return found
