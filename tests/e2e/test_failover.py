from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.failover import failover

pytestmark = pytest.mark.anyio


async def test_nothing_promised_with_a_replica_is_lost_when_the_store_fails_over_under_load(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    seed = random.randrange(2**32)
    account = await failover(short_folder, free_port, failovers=2, seed=seed)
    told = f"seed {seed}: {account}"
    assert len(account.answered) > 40, told  # fewer beside other tests; each failover waits for some more
    assert account.lost() == [], told
    assert account.out_of_order() == [], told
    assert account.unexplained() == [], told
