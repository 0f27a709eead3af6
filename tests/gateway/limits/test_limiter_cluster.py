"""Limits whose buckets lie on three servers."""

from __future__ import annotations

import asyncio

import pytest
from redis.crc import key_slot

from gateway.client_ip import client_of
from gateway.limits.applicable import Limits, Subject
from gateway.limits.limiter import Limiter
from gateway.policies import AddressList
from sluice.http.client import fields_of
from sluice.store.client import Store
from tests.gateway.making import a_limit
from tests.sluice.store.test_cluster import servers, store
from tests.waiting import until

__all__ = ["servers", "store"]
pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_over_the_slots_of_a_cluster_never_more_than_the_limit_passes(store: Store) -> None:
    limits = Limits([a_limit(name, burst=20, per=("session",)) for name in ("a", "b", "c", "d")], {}, spread=True)
    subject = Subject(client_of("192.0.2.7", fields_of(()), AddressList()), "message", "s1", relayed=False)
    buckets = limits.buckets(subject)
    assert len({key_slot(bucket.key.encode()) * 3 // 16384 for bucket in buckets}) > 1, "they lie on several servers"
    gateways = [Limiter(store) for _ in range(3)]
    decisions = await asyncio.gather(*(gateway.take(buckets) for _ in range(20) for gateway in gateways))
    passed = sum(decision.verdict == "pass" for decision in decisions)
    assert passed <= 20, "fewer, where one server was first asked by these and another by those"

    async def used_up() -> bool:
        nonlocal passed
        passed += (await Limiter(store).take(buckets)).verdict == "pass"
        return passed == 20

    await until(used_up, what="what was taken on one server and refused on another to be given back")
    last = await Limiter(store).take(buckets)
    assert last.verdict == "reject"
    assert last.levels == pytest.approx([0] * 4, abs=0.1)
