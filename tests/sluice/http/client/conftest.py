from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both loops: what they do on a lost connection, and when, is not the same."""
    return request.param
