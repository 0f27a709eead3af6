"""Eight unmodified workers, started together and killed at random; `benchmarks/story.py` takes three minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.story import Course, story

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = 17


async def test_workers_that_are_killed_at_random_run_no_session_twice_and_lose_no_row(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    course = Course(seconds=15, seed=SEED, scale=0.02, between=(0.5, 2.0), down=(0.2, 2.0), settled=3.0)
    verdict = await story(short_folder, free_port, course)
    print(verdict)
    assert verdict.kept, str(verdict)
