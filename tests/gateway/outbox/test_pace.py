"""Stored sends take their tokens from the store, or wait."""

from __future__ import annotations

import pytest

from gateway.limits.applicable import HOLD, Limits, Subject
from gateway.limits.limiter import Limiter
from gateway.outbox import pace
from gateway.outbox.pace import NotYet
from gateway.policies import Limit
from sluice.store.client import Store
from tests.gateway.making import HOURLY, a_client, a_limit

pytestmark = pytest.mark.anyio


def buckets(limit: Limit) -> list[pace.Bucket]:
    found = Limits([limit], {}, spread=False).buckets(Subject(a_client(), "send", "s1", relayed=False))
    for bucket in found:
        bucket.mode = HOLD
    return found


async def test_a_send_goes_while_its_bucket_has_tokens(store: Store) -> None:
    limiter, limit = Limiter(store), a_limit("send", rate=HOURLY, per=("session",), burst=2)
    assert [await pace.take(limiter, buckets(limit)) for _ in range(2)] == [None, None]
    third = await pace.take(limiter, buckets(limit))
    assert isinstance(third, NotYet)
    assert (third.kind, third.why, third.wait) == ("pace", "limit send has no token for it yet", pace.LOOK_EVERY)


async def test_while_the_store_is_away_no_send_goes_whatever_the_limit_says_of_requests() -> None:
    limiter = Limiter(Store("unix:///nonexistent/store.sock", timeout=0.2))
    limit = a_limit("send", rate=HOURLY, per=("session",), burst=5)
    assert limit.when_store_away == "local"
    for _ in range(3):
        found = await pace.take(limiter, buckets(limit))
        assert isinstance(found, NotYet)
        assert (found.kind, found.why) == ("pace", "limit send cannot be decided right now")
        assert 0 < found.wait <= pace.LOOK_EVERY
