from __future__ import annotations

import re

import pytest

from sessions.worker.ids import SentIds, derived
from sluice.store.client import Store

pytestmark = pytest.mark.anyio


def test_what_a_caller_gives_is_always_the_same_message() -> None:
    one = derived("msg-1")
    assert re.fullmatch(r"3EB0[0-9A-F]{18}", one)
    assert derived("msg-1") == one
    assert derived("msg-2") != one


async def test_whoever_runs_the_session_later_knows_what_its_sender_calls_it(store: Store) -> None:
    await SentIds(store).note("s", "true_49@c.us_1", "msg-1")
    later = SentIds(store)
    for _ in range(2):
        assert await later.given("s", "true_49@c.us_1") == "msg-1"
    assert await later.given("s", "true_49@c.us_2") is None
    assert await later.given("other", "true_49@c.us_1") is None


async def test_it_is_not_kept_for_ever(store: Store) -> None:
    await SentIds(store).note("s", "m", "msg-1")
    (left,) = await store.commands(("TTL", "sl:{sent:s}:m"))
    assert 13 * 86400 < left <= 14 * 86400
