from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.fleet import Fleet, fleet

Build = Callable[..., "AbstractAsyncContextManager[Fleet]"]


@pytest.fixture
def build(tmp_path: Path, store_url: str, free_port: Callable[[], int]) -> Build:
    """Builds a fleet: see `tests.contract.fleet`."""

    def make(**how: Any) -> AbstractAsyncContextManager[Fleet]:
        return fleet(tmp_path, store_url, free_port, **how)

    return make


@pytest.fixture
async def two(build: Build) -> AsyncIterator[Fleet]:
    """Two keyed workers behind their prefixes. s0 (workspace 0) was connected at the first, s1 (1) at the second."""
    async with build() as made:
        await made.restored()
        for number in range(2):
            await made.begin(number, f"s{number}", f"49{number}")
        for number in range(2):
            await made.connected(f"s{number}")
        yield made
