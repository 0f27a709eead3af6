"""Two sessions of one phone become connected at once, at two workers, through two gateways, while one is killed: one is
left, and Laravel's table has it. A hundred of these runs: benchmarks/one_phone.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.lifecycle.phones import Keep
from tests.e2e.one_phone.running import racing

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.mark.parametrize(("keep", "runs"), [("newest", 5), ("oldest", 3), ("allow", 2)])
async def test_exactly_one_is_left(tmp_path: Path, free_port: Callable[[], int], keep: Keep, runs: int) -> None:
    chance = random.Random(5)
    async with racing(tmp_path, free_port, keep) as race:
        for number in range(runs):
            (outcome,) = await race.run([number], chance)
            assert outcome.stays in (f"a{number}", f"b{number}")
