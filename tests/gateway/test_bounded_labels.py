"""What comes from outside becomes a label of a metric only within bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway import metrics as edge_metrics
from relay import metrics as relay_metrics
from sluice.http.server import metrics as server_metrics
from sluice.observe import metrics


def labels(name: str, label: str, **given: str) -> set[str]:
    families = metrics.registry().collect()
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {one.labels[label] for one in samples if all(one.labels[key] == value for key, value in given.items())}


def test_statuses_that_no_standard_knows_count_by_their_class() -> None:
    for status in range(100, 600):
        server_metrics.request("bounds", status, 0.001)
    seen = labels("sluice_requests_total", "status", route="bounds")
    assert len(seen) < 90
    assert {"200", "404", "419", "499", "2xx", "4xx", "5xx"} <= seen
    assert "299" not in seen


def test_what_came_of_a_request_upstream_is_one_of_few_words() -> None:
    for status in range(100, 600):
        edge_metrics.upstream_answered("bounds", status, 0.001)
    seen = labels("sluice_upstream_requests_total", "outcome", upstream="bounds")
    assert seen == {"answered", "500", "502", "503", "504"}


@pytest.fixture
def no_event_types() -> Iterator[None]:
    """As in a new process; other tests find those that they know."""
    known = set(relay_metrics._EVENT_NAMES)
    relay_metrics._EVENT_NAMES.clear()
    yield
    relay_metrics._EVENT_NAMES.clear()
    relay_metrics._EVENT_NAMES.update(known)


@pytest.mark.usefixtures("no_event_types")
def test_event_types_beyond_two_hundred_count_as_other() -> None:
    for i in range(1000):
        relay_metrics.accepted("bounds", f"type-{i}")
    seen = labels("sluice_events_accepted_total", "event", endpoint="bounds")
    assert seen == {f"type-{i}" for i in range(200)} | {"other"}
