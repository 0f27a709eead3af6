"""A process of its own that tries policies by the access log of this machine, so that no request waits for it.

    python -m sluice.console.policies_trial < wanted > found

`wanted` and `found` are JSON, as `sluice.console.actions.trying` writes and reads them. The log is read from its end,
over all gateways of the machine, `MAX_REQUESTS` at most; buckets begin full.
"""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from gateway.policies import Policies, load
from gateway.policies.certificates import refuse_broken_certificates
from gateway.policies.edits import differences, hold, waits_for_restart
from gateway.replay import Counts, Replay, request_of
from sluice.config import PolicyError, Problem
from sluice.console.audit_reading import newest_first
from sluice.observe.log import FOLDER

MAX_REQUESTS = 40_000
_MAX_LINES = 200_000
_KEPT = ("method", "path", "route", "client", "event", "session", "status", "counted", "request_id", "why", "on")
_WORST = 20
_NICE = 5

Row = tuple[float, Mapping[str, Any]]


def try_out(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`source`, `data`: of the policies in force; `old`: their text, or null where it is gone; `new`: the other one, or
    null: only those in force are tried; `since`: unix seconds; `secrets`: those that `new` names have to be there."""
    source, data = Path(wanted["source"]), Path(wanted["data"])
    old = _load(source, wanted["old"]) if wanted["old"] is not None else None
    found: dict[str, Any] = {"problems": [], "warnings": [], "revision": None, "changes": [], "log": None}
    new = None
    if wanted["new"] is not None:
        try:
            new = _checked(source, wanted["new"], old, need_secrets=wanted["secrets"])
        except PolicyError as error:
            return {**found, "problems": [_problem(one) for one in error.problems]}
        found |= {"warnings": new.warnings, "revision": new.revision, "changes": _changes(old, new) if old else []}
    rows, complete = _rows(Path(os.environ.get(FOLDER) or data / "logs"), wanted["since"])
    if rows:
        found["log"] = {
            "began": rows[0][0],
            "ended": rows[-1][0],
            "complete": complete,
            "old": _replayed(old, rows) if old else None,
            "new": _replayed(new, rows) if new else None,
        }
    return found


def _load(source: Path, text: str) -> Policies:
    return load(source, content=text.encode(), need_secrets=False)


def _checked(source: Path, text: str, old: Policies | None, *, need_secrets: bool) -> Policies:
    """Raises PolicyError, as the edit of the file would."""
    if need_secrets:
        refuse_broken_certificates(load(source, content=text.encode()))
    new = _load(source, text)
    if old is not None:
        hold(old, new)
    return new


def _problem(problem: Problem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in ("line", "column", "key", "message", "hint")}


def _changes(old: Policies, new: Policies) -> list[dict[str, Any]]:
    return [{**asdict(one), "needs_restart": waits_for_restart(one.key)} for one in differences(old, new)]


def _rows(folder: Path, since: float) -> tuple[list[Row], bool]:
    """The oldest first, and whether they reach back so far."""
    files = [_newest(file) for file in sorted(folder.glob("gateway*.jsonl"))]
    found: list[Row] = []
    for at, row in islice(heapq.merge(*files, key=lambda one: -one[0]), _MAX_LINES):
        if at < since or len(found) == MAX_REQUESTS:
            return found[::-1], at < since
        found.append((at, {name: row[name] for name in _KEPT if name in row}))
    return found[::-1], False


def _newest(file: Path) -> Iterator[Row]:
    """Lines are in the order in which requests were answered; what is told here never runs back."""
    last = float("inf")
    try:
        for _, line in newest_first(file, None):
            request = request_of(line)
            if request is not None:
                last = min(last, request[0])
                yield last, request[1]
    except OSError:
        return


def _replayed(policies: Policies, rows: list[Row]) -> dict[str, Any]:
    replay = Replay(policies)
    for at, row in rows:
        replay.take(at, row)
    return {
        "requests": replay.requests,
        "refused_then": replay.refused_then,
        "refused": replay.refused_now,
        "limits": {name: _counts(counts) for name, counts in replay.limits.items()},
    }


def _counts(counts: Counts) -> dict[str, Any]:
    kept = ("passed", "refused", "dropped", "delayed", "held", "would_reject", "max_delay", "max_hold")
    return {
        **{name: getattr(counts, name) for name in kept},
        "worst": counts.worst.most_common(_WORST),
        "seen": counts.seen.most_common(_WORST),
    }


def main() -> None:
    os.nice(_NICE)
    sys.stdout.buffer.write(orjson.dumps(try_out(orjson.loads(sys.stdin.buffer.read()))))


if __name__ == "__main__":
    main()
