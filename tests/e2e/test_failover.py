"""The store fails over twice under load; `benchmarks/chaos.py --failovers N` takes longer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.failover import Kind, failover, repeated

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_nothing_promised_with_a_replica_is_lost_when_the_store_fails_over_under_load(
    short_folder: Path, free_port: Callable[[], int], kind: Kind
) -> None:
    seed = random.randrange(2**32)
    account, calls = await failover(short_folder, free_port, kind=kind, failovers=2, seed=seed)
    told = f"seed {seed}: {account}; status {dict(calls.statuses)}, messages {len(calls.told)}"
    print(told)
    assert len(account.answered) > 40, told  # fewer beside other tests; each failover waits for some more
    assert account.lost() == [], told
    assert account.out_of_order() == [], told
    assert account.unexplained() == [], told
    assert calls.wrong == [], told
    assert account.sent, told
    assert repeated(account) == [], told
