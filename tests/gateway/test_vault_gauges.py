"""What the page of metrics says of the vault; its numbers are those of the last look, so no page waits for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway import vault_gauges
from sessions.profiles import summary
from sessions.profiles.summary import AGES, Unnamed, VaultSummary
from sessions.profiles.troubles import Trouble
from tests.gateway import running
from tests.gateway.running import Receiver, start
from tests.waiting import until

pytestmark = pytest.mark.anyio

SEEN = VaultSummary(
    "store", sessions=3, generations=7, size=3000, stored=1500, needs=9000, ages=(1, 0, 1, *([0] * 7), 1),
    total_age=400.5, late_total=2, old_key=4, unnamed=(Unnamed("0000ffff", 5, 2, 1),), deleted=6,
)  # fmt: skip


class _Page:
    def __init__(self, *families: Any) -> None:
        self.families = families

    def collect(self) -> Any:
        return self.families


def test_ages_are_a_histogram() -> None:
    text = generate_latest(_Page(vault_gauges.ages(SEEN))).decode()
    (family,) = text_string_to_metric_families(text)
    assert (family.name, family.type) == (vault_gauges.AGE, "histogram")
    buckets = {one.labels["le"]: one.value for one in family.samples if one.name.endswith("_bucket")}
    assert len(buckets) == len(AGES) + 1
    assert [buckets[bound] for bound in ("60.0", "300.0", "600.0", "2592000.0", "+Inf")] == [1, 1, 2, 2, 3]
    rest = {one.name: one.value for one in family.samples if not one.labels}
    assert rest == {f"{vault_gauges.AGE}_count": 3, f"{vault_gauges.AGE}_sum": 400.5}


def test_each_gauge_has_its_value() -> None:
    troubles = [Trouble("save", session, 1, 1.0, 1.0, "full") for session in ("a", "b")]
    found = vault_gauges.values(SEEN, troubles)
    assert found.keys() == vault_gauges.GAUGES.keys()
    assert found["sluice_vault_sessions"] == [(("kept",), 3), (("deleted",), 6)]
    assert found["sluice_vault_unknown_key_generations"] == [((), 5)]
    assert dict(found["sluice_vault_troubles"]) == {("save",): 2, ("restore",): 0, ("fell_back",): 0, ("stale",): 0}


def test_without_a_vault_there_are_none() -> None:
    assert vault_gauges.values(None, []) == {}
    assert b"sluice_vault_snapshot_age_seconds_bucket" not in generate_latest(_Page(vault_gauges.ages(None)))


async def test_a_gateway_looks_at_its_vault_by_itself(
    tmp_path: Path, store_url: str, laravel: Receiver, stopping: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "EVERY", 0.1)
    text = running.POLICIES.replace("verify: workers}}\n", "verify: workers, vault: {{key: 'file:key'}}}}\n")
    (tmp_path / "key").write_text("a key of more than sixteen bytes")
    gate, task = start(tmp_path, store_url, laravel.url, text=text)
    stopping.append(task)
    async with gate.http:

        async def is_shown() -> bool:
            return "sluice_vault_up 1.0" in (await gate.http.get("/_sluice/metrics")).text

        try:
            await until(is_shown, timeout=30.0)
        finally:
            gate.stop.request()
