"""Each kind of fault once; `benchmarks/nemesis.py` takes longer, and measures the gaps strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nemesis.faults import TO_THE_REST, TO_WORKERS
from tests.nemesis.rolling import rolling
from tests.nemesis.run import LONGEST_GAP, nemesis

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED, SEED_OF_BROWSERS = 17, 13
ON_A_BUSY_MACHINE = LONGEST_GAP + 20.0


async def test_no_fault_makes_two_act_or_loses_what_was_accepted_or_lies_to_laravel(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    faults = 3 * max(len(TO_WORKERS), len(TO_THE_REST))
    outcome = await nemesis(
        short_folder, free_port, faults=faults, seed=SEED, longest_gap=ON_A_BUSY_MACHINE, own=12, existing=8
    )
    print(f"seed {SEED}: {outcome}")
    assert outcome.faults.total() == faults
    assert outcome.verdict.wrong == ()
    assert outcome.verdict.counts["delivered"] > 100


async def test_no_fault_makes_two_browsers_of_a_session_run(short_folder: Path, free_port: Callable[[], int]) -> None:
    """Workers with real browsers are among the others; sessions go from one kind to the other."""
    outcome = await nemesis(
        *(short_folder, free_port),
        faults=9,
        seed=SEED_OF_BROWSERS,
        longest_gap=ON_A_BUSY_MACHINE,
        own=4,
        existing=2,
        browsers=2,
    )
    print(f"seed {SEED_OF_BROWSERS}: {outcome}")
    assert outcome.verdict.wrong == ()
    assert outcome.verdict.counts["browser"] > 2
    assert outcome.verdict.counts["connected"] >= 2


async def test_a_rolling_restart_fails_no_request_and_brings_every_session_back(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    outcome = await rolling(short_folder, free_port, longest_gap=ON_A_BUSY_MACHINE, own=12, existing=8)
    print(outcome)
    assert outcome.verdict.wrong == ()
    assert outcome.failed == ()
