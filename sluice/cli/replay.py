"""`sluice replay`: who would have been refused under other policies, by the access log.

The log knows time, client, method, path, event type and session of a request, not what its body cost, nor its
workspace.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.client_ip import client_of
from gateway.limits.applicable import Bucket, Limits, LocalBucket, Subject
from gateway.policies import Policies, ToRelay, load
from gateway.problems import BadPath
from gateway.routing import Routes
from sluice.cli.errors import CommandError
from sluice.http.client import fields_of

_MAX_BUCKETS = 1_000_000
_WORST = 5
_NO_FIELDS = fields_of(())


@dataclass(slots=True)
class Told:
    """Of one limit."""

    passed: int = 0
    refused: int = 0
    dropped: int = 0
    delayed: int = 0
    would_reject: int = 0
    longest_delay: float = 0.0
    worst: Counter[str] = field(default_factory=Counter)
    """Subjects by how often they were refused, dropped or delayed."""


class Replay:
    """Feeds lines of the access log to buckets, whose clock is the log's."""

    def __init__(self, policies: Policies) -> None:
        self.requests = self.skipped = self.refused_then = self.refused_now = 0
        self.limits = {limit.id: Told() for limit in policies.limits}
        self.forgotten = 0
        self._routes = Routes(policies.routes)
        self._limits = Limits(policies.limits, policies.trust.lists)
        self._buckets: OrderedDict[str, LocalBucket] = OrderedDict()

    def feed(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            request = _request(line)
            if request is None:
                self.skipped += 1
                continue
            at, row = request
            self.requests += 1
            self.refused_then += row.get("status") == 429
            self._decide(at, self._met(at, row))

    def _met(self, at: float, row: dict[str, Any]) -> list[Bucket]:
        try:
            match = self._routes.match(str(row["method"]), str(row["path"]).encode("utf-8", "replace"))
        except BadPath:
            match = None
        if match is None:
            return []
        client = client_of(str(row.get("client")), _NO_FIELDS, ())
        relayed = isinstance(match.route.action, ToRelay)
        return self._limits.buckets(Subject(client, row.get("event"), row.get("session"), relayed), None, at)

    def _decide(self, at: float, buckets: list[Bucket]) -> None:
        waits = [(bucket, found := self._bucket(bucket, at), self._wait(bucket, found, at)) for bucket in buckets]
        refusing = [bucket for bucket, _, wait in waits if wait > 0 and bucket.how == "e"]
        self.refused_now += any(bucket.limit.over != "drop" for bucket in refusing)
        for bucket, found, wait in waits:
            told = self.limits[bucket.limit.id]
            if bucket.how == "o":
                told.would_reject += wait > 0
            elif bucket in refusing:
                told.dropped += bucket.limit.over == "drop"
                told.refused += bucket.limit.over != "drop"
            elif not refusing and wait > 0:
                told.delayed += 1
                told.longest_delay = max(told.longest_delay, wait)
            if wait > 0:
                told.worst[" ".join(bucket.key.split("\0")[1:]) or "everybody"] += 1
            else:
                told.passed += 1
            if (wait == 0) if bucket.how == "o" else not refusing:
                found.take(bucket.cost)

    def _wait(self, bucket: Bucket, found: LocalBucket, at: float) -> float:
        return found.wait(at, bucket.interval, bucket.burst, bucket.cost)

    def _bucket(self, bucket: Bucket, at: float) -> LocalBucket:
        found = self._buckets.get(bucket.key)
        if found is None:
            found = self._buckets[bucket.key] = LocalBucket(float(bucket.burst), at)
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
                self.forgotten += 1
        return found


def run(log: str, policies: Path, *, as_json: bool) -> int:
    """The exit code: 0 nobody would have been refused, 1 somebody would."""
    replay = Replay(load(policies, need_secrets=False))
    replay.feed(_lines(log))
    if not replay.requests:
        raise CommandError(f"{log} holds no requests; the access log is <data>/logs/gateway.jsonl")
    if as_json:
        sys.stdout.write(orjson.dumps(_fields(replay), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _said(replay)))
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
                "passed": told.passed,
                "refused": told.refused,
                "dropped": told.dropped,
                "delayed": told.delayed,
                "longest_delay_seconds": told.longest_delay,
                "would_reject": told.would_reject,
                "worst": dict(told.worst.most_common(_WORST)),
            }
            for name, told in replay.limits.items()
        },
    }


def _said(replay: Replay) -> Iterator[str]:
    yield f"{replay.requests} requests, {replay.skipped} other lines"
    yield f"refused then {replay.refused_then}, refused now {replay.refused_now}"
    for name, told in replay.limits.items():
        parts = [f"{told.passed} passed"]
        parts += [f"{n} {what}" for n, what in ((told.refused, "refused"), (told.dropped, "dropped")) if n]
        if told.delayed:
            parts.append(f"{told.delayed} queued for up to {told.longest_delay:.1f}s")
        if told.would_reject:
            parts.append(f"{told.would_reject} would be refused, were it enforced")
        yield f"  {name:<12} {', '.join(parts)}"
        for subject, times in told.worst.most_common(_WORST):
            yield f"               {times} of {subject}"
    if replay.forgotten:
        yield f"{replay.forgotten} buckets were forgotten for want of room: too little is refused here"
    yield "not in the log, and so not counted: costs in bodies, and workspaces"
