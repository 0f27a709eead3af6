"""What this process has counted."""

from __future__ import annotations

from prometheus_client import generate_latest

from sluice.observe import metrics


def counted() -> str:
    """As the page of metrics has it, which is made once a second."""
    return generate_latest(metrics.registry()).decode()
