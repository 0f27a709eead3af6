from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from relay import metrics
from sluice.observe.recent import run_once


@pytest.mark.anyio
async def test_how_many_were_handled_inline_in_the_last_minute_is_shown_with_how_long_they_took() -> None:
    for seconds in (0.5, 2.5):
        metrics.attempted("of-handled", "delivered", seconds, 3.0, 1, "inline")
    metrics.attempted("of-handled", "delivered", 9.0, 9.0, 1)
    await run_once()
    labels = {"endpoint": "of-handled", "handled": "inline"}
    assert REGISTRY.get_sample_value("sluice_handled_last_minute", labels) == 2
    assert REGISTRY.get_sample_value("sluice_handled_seconds_last_minute", labels) == 3.0
    assert REGISTRY.get_sample_value("sluice_handled_seconds_count", labels) == 2
