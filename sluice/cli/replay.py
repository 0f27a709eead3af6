"""`sluice replay`: who would have been refused under other policies, by the access log.

The log knows time, client, method, path, event type and session of a request, not what its body cost, nor its
workspace.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.client_ip import client_of
from gateway.limits.applicable import DELAY, HOLD, OBSERVE, Bucket, Subject
from gateway.limits.decide import HAD, Decision, outcome, wait
from gateway.limits.local import LocalBuckets
from gateway.plan import Planner
from gateway.policies import AddressList, Policies
from gateway.reserved_access import ROUTE
from sluice.cli.errors import CommandError
from sluice.cli.options import json_option, policies_option
from sluice.cli.policies import at_hand
from sluice.cli.screen import print_json
from sluice.http.client import fields_of

_MAX_BUCKETS = 1_000_000
_WORST = 5
_NO_FIELDS = fields_of(())
_NOBODY = AddressList()
_INVALID = frozenset((400, 401, 404, 413))


@dataclass(slots=True)
class Counts:
    """Of one limit."""

    passed: int = 0
    refused: int = 0
    dropped: int = 0
    delayed: int = 0
    held: int = 0
    would_reject: int = 0
    max_delay: float = 0.0
    max_hold: float = 0.0
    worst: Counter[str] = field(default_factory=Counter)
    """Subjects by how often they were refused, dropped, delayed or held."""


class Replay:
    """Feeds lines of the access log to buckets, whose clock is the log's."""

    def __init__(self, policies: Policies) -> None:
        self.requests = self.skipped = self.refused_then = self.refused_now = 0
        self.limits = {limit.id: Counts() for limit in policies.limits}
        self._planner = Planner(policies)
        self._local = LocalBuckets(_MAX_BUCKETS)

    @property
    def forgotten(self) -> int:
        return self._local.forgotten

    def feed(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            request = _request(line)
            if request is None:
                self.skipped += 1
                continue
            at, row = request
            self.requests += 1
            self.refused_then += row.get("status") == 429
            self._take(at, self._buckets(at, row))

    def _buckets(self, at: float, row: dict[str, Any]) -> list[Bucket]:
        """Those that the edge takes from: of a request that is wrong in itself, those of the limits of its head."""
        counted = _counted(row)
        if counted == "none":
            return []
        path = str(row["path"]).encode("utf-8", "replace")
        rules = self._planner.rules_of(str(row["method"]), path, str(row.get("on") or ""))
        client = client_of(str(row.get("client")), _NO_FIELDS, _NOBODY)
        subject = Subject(client, row.get("event"), row.get("session"), rules.relayed)
        limits = rules.limits if counted == "all" and rules.route is not None else rules.limits_of_refused
        return limits.buckets(subject, None, at)

    def _take(self, at: float, buckets: list[Bucket]) -> None:
        watching = [bucket for bucket in buckets if bucket.mode == OBSERVE]  # the others do not matter to them
        enforced = [bucket for bucket in buckets if bucket.mode != OBSERVE]
        self._count(watching, self._local.take(watching, at))
        decision = self._local.take(enforced, at)
        holding = [bucket for bucket in enforced if bucket.mode == HOLD]
        if decision.verdict == "hold" and decision.retry_after <= min(bucket.limit.hold for bucket in holding):
            # It passes then. As a debt its tokens are ahead of those of later requests until it does.
            enforced = [replace(bucket, mode=DELAY) if bucket.mode == HOLD else bucket for bucket in enforced]
            decision = self._local.take(enforced, at)
        self.refused_now += decision.verdict in ("reject", "hold")
        self._count(enforced, decision)

    def _count(self, buckets: list[Bucket], decision: Decision) -> None:
        for i, bucket in enumerate(buckets):
            counts = self.limits[bucket.limit.id]
            has = not decision.marks or decision.marks[i] == HAD
            done = outcome(decision, bucket, i)
            counts.refused += done == "rejected" or (decision.verdict == "hold" and not has)
            counts.dropped += done == "dropped"
            counts.would_reject += done == "would_reject"
            if done == "delayed":
                seconds = wait(bucket, decision.levels[i] + bucket.cost)
                if bucket.limit.over == "hold":
                    counts.held += 1
                    counts.max_hold = max(counts.max_hold, seconds)
                else:
                    counts.delayed += 1
                    counts.max_delay = max(counts.max_delay, seconds)
            if has:
                counts.passed += 1
            else:
                counts.worst[" ".join(bucket.key.split("\0")[1:]) or "everybody"] += 1


def _counted(row: dict[str, Any]) -> str:
    """Which limits the edge took from, as it says itself; of an older log, as far as the status tells.

    An answer of an upstream, of whatever status, has no reason of ours.
    """
    if "counted" in row or "request_id" in row:
        return row.get("counted") or "all"
    status = row.get("status")
    if row.get("why", "") is None or status not in _INVALID | {403}:
        return "all"
    return "none" if status == 403 else "head"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOG", help="<data>/logs/gateway.jsonl, or - for standard input")
    json_option(parser)
    policies_option(parser)
    parser.set_defaults(run=lambda options: run(options.log, options.policies, as_json=options.json))


def run(log: str, policies: Path, *, as_json: bool) -> int:
    """The exit code: 0 nobody would have been refused, 1 somebody would."""
    replay = Replay(at_hand(policies))
    replay.feed(_lines(log))
    if not replay.requests:
        raise CommandError(f"{log} holds no requests; the access log is <data>/logs/gateway.jsonl")
    if as_json:
        print_json(_fields(replay))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _report(replay)))
    return 1 if replay.refused_now else 0


def _lines(log: str) -> Iterator[bytes]:
    if log == "-":
        yield from sys.stdin.buffer
        return
    try:
        with open(log, "rb") as file:
            yield from file
    except OSError as error:
        raise CommandError(f"{log} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _request(line: bytes) -> tuple[float, dict[str, Any]] | None:
    try:
        row = orjson.loads(line)
        if not isinstance(row, dict) or row.get("msg") != "request" or not row["method"] or not row["path"]:
            return None
        if row.get("route") == ROUTE:
            return None  # no limit concerns the reserved paths
        return datetime.fromisoformat(row["at"]).timestamp(), row
    except (orjson.JSONDecodeError, KeyError, ValueError, TypeError):
        return None


def _fields(replay: Replay) -> dict[str, object]:
    return {
        "requests": replay.requests,
        "skipped_lines": replay.skipped,
        "refused_then": replay.refused_then,
        "refused_now": replay.refused_now,
        "limits": {
            name: {
                "passed": counts.passed,
                "refused": counts.refused,
                "dropped": counts.dropped,
                "delayed": counts.delayed,
                "longest_delay_seconds": counts.max_delay,
                "held": counts.held,
                "longest_hold_seconds": counts.max_hold,
                "would_reject": counts.would_reject,
                "worst": dict(counts.worst.most_common(_WORST)),
            }
            for name, counts in replay.limits.items()
        },
    }


def _report(replay: Replay) -> Iterator[str]:
    yield f"{replay.requests} requests, {replay.skipped} other lines"
    yield f"refused then {replay.refused_then}, refused now {replay.refused_now}"
    for name, counts in replay.limits.items():
        parts = [f"{counts.passed} passed"]
        parts += [f"{n} {what}" for n, what in ((counts.refused, "refused"), (counts.dropped, "dropped")) if n]
        if counts.delayed:
            parts.append(f"{counts.delayed} queued for up to {counts.max_delay:.1f}s")
        if counts.held:
            parts.append(f"{counts.held} held for up to {counts.max_hold:.1f}s")
        if counts.would_reject:
            parts.append(f"{counts.would_reject} would be refused if it were enforced")
        yield f"  {name:<12} {', '.join(parts)}"
        for subject, times in counts.worst.most_common(_WORST):
            yield f"               {times} of {subject}"
    if replay.forgotten:
        yield f"{replay.forgotten} buckets were forgotten for want of room: too little is refused here"
    yield "not in the log, and so not counted: costs in bodies, and workspaces"
