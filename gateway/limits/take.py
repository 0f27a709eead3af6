"""The script that takes from buckets, and what it is asked. Its keys are `sl:{l}:*`, named by `applicable`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from gateway.limits.applicable import OBSERVE, Bucket
from sluice.store.client import Store, load_script

TAKE = load_script("gateway.limits", "take")
SLOW = 100 / 99
"""By so much longer it takes until the time of the scripts has passed, while it is ahead of the clock (clock.lua)."""


def take_arguments(requests: Sequence[Sequence[Bucket]]) -> tuple[list[str], list[bytes]]:
    """The keys, each bucket once, and what take.lua is to decide on them."""
    indices: dict[str, int] = {}
    numbers: list[tuple[float, int]] = []
    coded: list[list[int]] = []
    for buckets in requests:
        row = []
        for bucket in buckets:
            index = indices.get(bucket.key)
            if index is None:
                index = indices[bucket.key] = len(indices) + 1
                numbers.append((bucket.interval * 1e6, bucket.burst))
            row.append(4 * index + bucket.mode)
            if bucket.cost != 1:
                row.append(-bucket.cost)
        coded.append(row)
    return list(indices), [orjson.dumps({"buckets": numbers, "requests": coded})]


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
