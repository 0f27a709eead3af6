"""Stored sends go out once each, in order and at their pace, through kills; `benchmarks/outbox.py` has more of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.outbox.run import existing_worker_is_killed, gateway_is_killed, outbox, own_worker_is_killed, store_is_killed

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = 11
FAULTS = (own_worker_is_killed, existing_worker_is_killed, gateway_is_killed, store_is_killed)


async def test_each_send_goes_out_once_in_order_at_its_pace_and_its_receipts_match(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    outcome = await outbox(
        short_folder, free_port, sends=200, sessions=8, seed=SEED, scale=8.0, faults=FAULTS, drained_within=120.0
    )
    print(f"seed {SEED}: {outcome}")
    assert outcome.verdict.wrong == ()
    assert outcome.faults.total() == len(FAULTS)
    assert outcome.verdict.counts["sent"] > 150
    assert outcome.verdict.counts["told 202"] > 50
    assert outcome.verdict.counts["webhooks"] > 200
