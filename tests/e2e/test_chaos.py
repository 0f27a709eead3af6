"""Five random kills under load; `benchmarks/chaos.py` does the same with as many as wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.chaos import chaos

pytestmark = pytest.mark.anyio

SEED = 5


async def test_random_kills_lose_nothing_and_keep_the_order(short_folder: Path, free_port: Callable[[], int]) -> None:
    account = await chaos(short_folder, (free_port(), free_port()), kills=5, seed=SEED)
    print(f"seed {SEED}: {account}")
    assert account.kills.total() == 5
    assert account.accepted
    assert account.lost() == []
    assert account.out_of_order() == []
    assert account.unexplained() == [], "a repeat carries the id of the first"
