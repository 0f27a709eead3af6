"""Five random kills under load, and what healthy sessions feel of bad ones; `benchmarks/chaos.py` takes longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.queue.suspects import MAX_CRASHES
from tests.e2e.account import OF_CRASHES, Account
from tests.e2e.bad_receiver import HEALTHY, bad_receiver
from tests.e2e.chaos import BAD, chaos, dead_letters, start, unkilled
from tests.e2e.deployment import deployment
from tests.waiting import until

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
    assert account.wrongly_dead() == []
    assert account.out_of_order() == []
    assert account.unexplained() == [], "a repeat carries the id of the first"


async def test_an_event_in_whose_post_three_relays_are_killed_is_a_dead_letter_and_the_next_ones_arrive(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    account, ports, poison = Account(), (free_port(), free_port()), ("hanging-always", 0)
    async with bad_receiver(ports[1], account) as calm, deployment(short_folder, ports) as deployed:
        await start(deployed)
        await deployed.send(*poison)
        await deployed.send("hanging-always", 1)
        posts = account.posted[poison]
        while len(account.relay_kills) < MAX_CRASHES:
            await until(lambda: len(posts) > len(account.relay_kills), what="its next POST")
            await deployed.kill_child("relay")
            account.relay_kills.append(time.monotonic())
        calm.set()
        await until(deployed.drained, what="the next one to arrive")
        assert await dead_letters(deployed) == {poison: OF_CRASHES}
    assert len(posts) == MAX_CRASHES
    assert [sent for sent, _, _ in account.taken] == [("hanging-always", 1)]
    account.dead = {poison: OF_CRASHES}
    assert account.wrongly_dead() == []


async def test_sessions_that_are_answered_badly_do_not_hold_up_the_others(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    account = await unkilled(short_folder, (free_port(), free_port()), seconds=15, bad=BAD)
    print(account, account.latency(HEALTHY, 50), account.latency(HEALTHY, 99))
    assert account.given_up == {}
    assert account.lost() == []
    assert account.out_of_order() == []
    assert account.latency(HEALTHY, 99) < 1.0
