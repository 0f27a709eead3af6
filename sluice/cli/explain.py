"""`sluice explain`: which route, limits and buckets a request would meet, and how full those are now."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from gateway.explain import Explanation, HypotheticalRequest, explain
from gateway.limits.applicable import Bucket
from gateway.limits.limiter import levels_of
from gateway.policies import Policies, load
from sluice.process.addresses import store_url
from sluice.store.client import Store, StoreAway, StoreRefused

_TIMEOUT = 1.0
_HOWS = {"e": "enforced", "q": "queued when it is used up", "o": "only observed"}


def run(path: Path, asked: HypotheticalRequest, *, as_json: bool) -> int:
    """The exit code: 0, whatever would become of the request."""
    policies = load(path, need_secrets=False)
    told = explain(policies, asked, time.time())
    levels = asyncio.run(_levels(policies, told.buckets))
    outcome = outcome_of(told, levels)
    if as_json:
        sys.stdout.write(orjson.dumps(_fields(told, levels, outcome), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(told, levels, outcome)))
    return 0


async def _levels(policies: Policies, buckets: Sequence[Bucket]) -> list[float] | None:
    """None: the store does not answer, so nobody knows."""
    if not buckets:
        return []
    store = Store(store_url(policies), timeout=_TIMEOUT)
    try:
        return await levels_of(store, buckets)
    except (StoreAway, StoreRefused):
        return None
    finally:
        await store.close()


def outcome_of(told: Explanation, levels: Sequence[float] | None) -> str:
    """What would come out, in words. Without levels: as if every bucket were full."""
    if told.refused:
        status, why = told.refused
        return f"{status}: {why}"
    if levels is None:
        return f"passes if its buckets have tokens (the store does not answer): {told.where}"
    short = [(bucket, level) for bucket, level in zip(told.buckets, levels, strict=True) if level < bucket.cost - 1e-9]
    refusing = [pair for pair in short if pair[0].how == "e"]
    if refusing:
        bucket, level = max(refusing, key=lambda pair: _wait(*pair))
        if bucket.limit.over == "drop":
            return f"202 dropped: limit {bucket.limit.id} is used up"
        return f"429: limit {bucket.limit.id} is used up; Retry-After {max(1, math.ceil(_wait(bucket, level)))}"
    delay = max((_wait(*pair) for pair in short if pair[0].how == "q"), default=0.0)
    return f"{told.where}, in {delay:.1f}s" if delay else f"{told.where}"


def _wait(bucket: Bucket, level: float) -> float:
    return (bucket.cost - level) * bucket.interval


def _lines(told: Explanation, levels: Sequence[float] | None, outcome: str) -> list[str]:
    lines = [f"client     {told.client}"] if told.client else []
    if told.route:
        lines.append(f"route      {told.route} (line {told.line}): {told.where}")
    lines += [f"           {note}" for note in told.notes]
    lines += [f"{name:<10} {value}" for name, value in _names(told).items() if value]
    for i, bucket in enumerate(told.buckets):
        level = "unknown" if levels is None else f"{max(0.0, math.floor(levels[i] * 10) / 10):g}"
        numbers = f"{level} of {bucket.burst} left, one more each {bucket.interval:g}s, costs {bucket.cost}"
        lines.append(f"limit      {bucket.limit.id}: {_HOWS[bucket.how]}; {numbers}")
    lines += [f"           {name} {why}" for name, why in told.left_alone.items()]
    return [*lines, f"outcome    {outcome}"]


def _names(told: Explanation) -> dict[str, str | None]:
    return {"event": told.event, "session": told.session, "workspace": told.workspace}


def _fields(told: Explanation, levels: Sequence[float] | None, outcome: str) -> dict[str, object]:
    return {
        "client": told.client,
        "route": told.route,
        "line": told.line,
        "where": told.where,
        **_names(told),
        "notes": told.notes,
        "limits": [
            {
                "id": bucket.limit.id,
                "how": _HOWS[bucket.how],
                "burst": bucket.burst,
                "seconds_for_one": bucket.interval,
                "cost": bucket.cost,
                "level": None if levels is None else levels[i],
            }
            for i, bucket in enumerate(told.buckets)
        ],
        "not_met": told.left_alone,
        "outcome": outcome,
    }
