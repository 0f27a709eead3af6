"""Five random kills under load, and what healthy sessions feel of bad ones; `benchmarks/chaos.py` takes longer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.bad_receiver import HEALTHY
from tests.e2e.chaos import BAD, chaos, unkilled

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = 5


async def test_random_kills_and_a_clock_that_steps_lose_nothing_and_keep_the_order(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    account = await chaos(short_folder, (free_port(), free_port()), kills=5, seed=SEED)
    print(f"seed {SEED}: {account}")
    assert account.kills.total() == 5
    assert account.steps
    assert any(message.startswith("the store's clock jumped") for message in account.messages)
    assert account.answered
    assert account.lost() == []
    assert account.out_of_order() == []
    assert account.unexplained() == [], "a repeat carries the id of the first"


async def test_sessions_that_are_answered_badly_do_not_hold_up_the_others(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    account = await unkilled(short_folder, (free_port(), free_port()), seconds=15, bad=BAD)
    print(account, account.latency(HEALTHY, 50), account.latency(HEALTHY, 99))
    assert account.given_up == {}
    assert account.lost() == []
    assert account.out_of_order() == []
    assert account.latency(HEALTHY, 99) < 1.0
