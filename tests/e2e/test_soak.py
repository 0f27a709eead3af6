"""Half a minute of load and faults; `benchmarks/soak.py` takes longer, and judges memory as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.soak import STAYS, WATCHED, soak
from tests.test_store_keys import documented

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_after_load_and_faults_nothing_is_lost_open_or_left_in_the_store(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    soaked = await soak(short_folder, (free_port(), free_port()), seconds=30, load_of=6, seed=7)
    assert soaked.account.answered
    assert soaked.account.lost() == []
    assert soaked.account.out_of_order() == []
    assert soaked.left == {}, "keys that nothing will ever remove"
    assert {name: soaked.files_grew(name) <= 5 for name in WATCHED} == dict.fromkeys(WATCHED, True)


def test_what_may_stay_are_families_of_the_table_of_keys() -> None:
    assert STAYS.keys() <= {row.pattern for row in documented()}
