"""Who would have been refused under other policies, by the access log. No I/O.

The log knows time, client, method, path, event type and session of a request, not what its body cost, nor its
workspace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from gateway.client_ip import client_of
from gateway.limits.applicable import DELAY, HOLD, OBSERVE, Bucket, Subject
from gateway.limits.decide import HAD, Decision, outcome, wait
from gateway.limits.local import LocalBuckets
from gateway.plan import Planner
from gateway.policies import AddressList, Policies
from gateway.reserved_access import ROUTE
from gateway.workers.calls import QUEUED, call_of
from sluice.http.client import fields_of

_MAX_BYTES = 256 * 2**20
"""Of buckets."""
_MAX_SUBJECTS = 100_000
"""Of a limit that are told apart."""
_NO_FIELDS = fields_of(())
_NOBODY = AddressList()
_INVALID = frozenset((400, 401, 404, 413))

Named = tuple[str, ...]
"""A subject, in the order of the limit's `per`; empty: everybody."""


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
    worst: Counter[Named] = field(default_factory=Counter)
    """Subjects by how often they were refused, dropped, delayed or held."""
    seen: Counter[Named] = field(default_factory=Counter)
    """Subjects by their requests."""


class Replay:
    """Feeds lines of the access log to buckets, whose clock is the log's."""

    def __init__(self, policies: Policies) -> None:
        self.requests = self.skipped = self.refused_then = self.refused_now = 0
        self.limits = {limit.id: Counts() for limit in policies.limits}
        self._planner = Planner(policies)
        self._local = LocalBuckets(_MAX_BYTES)

    @property
    def forgotten(self) -> int:
        return self._local.forgotten

    def feed(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            request = _request(line)
            if request is None:
                self.skipped += 1
            else:
                self.take(*request)

    def take(self, at: float, row: Mapping[str, Any]) -> None:
        """One line; `at` in unix seconds, and never before that of the last one."""
        self.requests += 1
        self.refused_then += row.get("status") == 429
        self._take(at, self._buckets(at, row))

    def _buckets(self, at: float, row: Mapping[str, Any]) -> list[Bucket]:
        """Those that the edge takes from: of a request that is wrong in itself, those of the limits of its head."""
        counted = _counted(row)
        if counted == "none":
            return []
        path = str(row["path"]).encode("utf-8", "replace")
        rules = self._planner.rules_of(str(row["method"]), path, str(row.get("on") or ""))
        client = client_of(str(row.get("client")), _NO_FIELDS, _NOBODY)
        subject = Subject(client, row.get("event"), row.get("session"), rules.relayed)
        limits = rules.limits if counted == "all" and rules.route is not None else rules.limits_of_refused
        buckets = limits.buckets(subject, None, at)
        if counted == "all" and rules.queues and row["method"] == "POST" and call_of("POST", path) in QUEUED:
            return [
                replace(it, mode=DELAY) if it.limit.over == "queue" and it.mode != OBSERVE else it for it in buckets
            ]
        return buckets

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
            counts, subject = self.limits[bucket.limit.id], tuple(bucket.key.split("\0")[1:])
            _note(counts.seen, subject)
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
                _note(counts.worst, subject)


def _note(subjects: Counter[Named], subject: Named) -> None:
    if subject in subjects or len(subjects) < _MAX_SUBJECTS:
        subjects[subject] += 1


def _counted(row: Mapping[str, Any]) -> str:
    """Which limits the edge took from, as it says itself; of an older log, as far as the status tells.

    An answer of an upstream, of whatever status, has no reason of ours.
    """
    if "counted" in row or "request_id" in row:
        return row.get("counted") or "all"
    status = row.get("status")
    if row.get("why", "") is None or status not in _INVALID | {403}:
        return "all"
    return "none" if status == 403 else "head"


def _request(line: bytes) -> tuple[float, Mapping[str, Any]] | None:
    try:
        return request_of(orjson.loads(line))
    except orjson.JSONDecodeError:
        return None


def request_of(row: object) -> tuple[float, Mapping[str, Any]] | None:
    """When it came, in unix seconds, and its line. None: it is not the line of a request that limits may concern."""
    try:
        if not isinstance(row, dict) or row.get("msg") != "request" or not row["method"] or not row["path"]:
            return None
        if row.get("route") == ROUTE:
            return None  # no limit concerns the reserved paths
        return datetime.fromisoformat(row["at"]).timestamp(), row
    except (KeyError, ValueError, TypeError):
        return None
