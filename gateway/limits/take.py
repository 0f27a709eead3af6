"""The script that takes from buckets, and what it is asked. Its keys are `sl:{l}:*`, named by `applicable`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import orjson

from gateway.limits.applicable import HOLD, OBSERVE, REFUSE, Bucket
from sluice.store.client import Store, load_script

TAKE: Final = load_script("gateway.limits", "take")
SLOW: Final = 100 / 99
"""By so much longer it takes until the time of the scripts has passed, while it is ahead of the clock (clock.lua)."""


def take_arguments(requests: Sequence[Sequence[Bucket]]) -> tuple[list[str], list[bytes]]:
    """The keys, each bucket once, and what take.lua is to decide on them."""
    indices: dict[str, int] = {}
    numbers: list[tuple[float, int]] = []
    coded: list[list[int]] = []
    waiting: list[tuple[int, int, Bucket]] = []
    for buckets in requests:
        row = []
        for bucket in buckets:
            mode = bucket.mode
            if mode == HOLD:
                mode = REFUSE
                if bucket.ticket is not None:
                    waiting.append((len(coded) + 1, buckets.index(bucket) + 1, bucket))
            index = indices.get(bucket.key)
            if index is None:
                index = indices[bucket.key] = len(indices) + 1
                numbers.append((bucket.interval * 1e6, bucket.burst))
            row.append(4 * index + mode)
            if bucket.cost != 1:
                row.append(-bucket.cost)
        coded.append(row)
    if not waiting:
        return list(indices), [orjson.dumps({"buckets": numbers, "requests": coded})]
    keys, lines = _lines(list(indices), waiting)
    return keys, [orjson.dumps({"buckets": numbers, "requests": coded, "lines": lines})]


def _lines(keys: list[str], waiting: Sequence[tuple[int, int, Bucket]]) -> tuple[list[str], list[list[int | str]]]:
    """The keys with those of the lines behind them, and who stands where in which."""
    now = time.monotonic()
    places: dict[str, int] = {}
    lines: list[list[int | str]] = []
    for request, place, bucket in waiting:
        ticket = bucket.ticket
        assert ticket is not None
        line = bucket.line
        if line not in places:
            keys.append(line)
            places[line] = len(keys)
        lines.append([request, place, places[line], ticket.id, int((now - ticket.since) * 1e6)])
    return keys, lines


async def levels_of(store: Store, buckets: Sequence[Bucket]) -> list[float]:
    """The tokens of each bucket now; nothing is taken. Raises StoreAway or StoreRefused."""
    # More than there can be, and only observed: nothing is taken, and the level is in the answer.
    probes = [replace(bucket, mode=OBSERVE, cost=bucket.burst + 1) for bucket in buckets]
    levels: dict[str, float] = {}
    for part in slots_of(probes).values() if probes else ():
        _, _, _, *found = orjson.loads(await store.run(TAKE, *take_arguments([part])))[0]
        levels |= zip([probe.key for probe in part], found, strict=True)
    return [levels[bucket.key] for bucket in buckets]


def slots_of(buckets: list[Bucket]) -> dict[str, list[Bucket]]:
    """The buckets by the hash tags of their keys: nearly always one for all."""
    tag = slot_of(buckets[0])
    if all(bucket.key.startswith(tag) for bucket in buckets):
        return {tag: buckets}
    parts: dict[str, list[Bucket]] = {}
    for bucket in buckets:
        parts.setdefault(slot_of(bucket), []).append(bucket)
    return parts


def slot_of(bucket: Bucket) -> str:
    return bucket.key[: bucket.key.index("}")]
