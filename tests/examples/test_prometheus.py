"""The page of metrics, rules, scrape and dashboard, as the real `promtool` sees them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from gateway import gauges
from sluice.observe import processes
from tests.e2e.deployment import deployment
from tests.e2e.receiver import receiving
from tests.test_operations import registered
from tests.waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES = EXAMPLES / "prometheus" / "rules.yaml"
CLIENT_CHOSEN = {"path", "session", "client", "ip", "host", "user_agent", "id", "workspace", "phone", "worker_id"}


def promtool(*arguments: str, given: bytes = b"", folder: Path = EXAMPLES / "prometheus") -> str:
    """What it said, after it was content."""
    tool = shutil.which("promtool")
    assert tool, "install promtool: apt-get install prometheus"
    done = subprocess.run([tool, *arguments], input=given, cwd=folder, capture_output=True, timeout=300, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


class Everything:
    """A sample of every metric that there is, also of those of which nothing was counted yet."""

    def collect(self) -> Iterator[Metric]:
        registered()
        for family in REGISTRY.collect():
            if not family.name.startswith(("python_", "process_")):
                yield self._sampled(family)
        for name, (description, labels) in gauges.GAUGES.items():
            yield self._sampled(Metric(name, description, "gauge"), dict.fromkeys(labels, "x"))
        for name, (description, _) in processes.GAUGES.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            yield self._sampled(Metric(name.removesuffix("_total"), description, kind), {"process": "x"})

    def _sampled(self, family: Metric, labels: dict[str, str] | None = None) -> Metric:
        if family.type in ("counter", "gauge"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            family.samples = [Sample(name, labels or {}, 1.0)]
        elif not family.samples:
            ends = [("_bucket", {"le": "+Inf"}), ("_sum", {}), ("_count", {})]
            family.samples = [Sample(family.name + end, given, 1.0) for end, given in ends]
        return family


def test_every_metric_is_named_as_promtool_wants_it() -> None:
    page = generate_latest(Everything())  # type: ignore[arg-type]
    assert page.count(b"# TYPE ") > 100
    assert promtool("check", "metrics", given=page) == ""


def test_no_label_is_one_that_a_client_chooses() -> None:
    registered()
    labels = {
        label for family in REGISTRY._names_to_collectors.values() for label in getattr(family, "_labelnames", ())
    }
    labels |= {label for _, given in gauges.GAUGES.values() for label in given}
    assert len(labels) > 10
    assert labels & CLIENT_CHOSEN == set()


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_page_of_a_real_gateway_is_as_promtool_wants_it(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    ports = (free_port(), free_port())
    async with receiving(ports[1]) as laravel, deployment(short_folder, ports) as sluice:
        await sluice.start_up()
        await sluice.send("webjs_1_1_a")
        await until(lambda: laravel.taken(), what="a delivery")
        async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False) as http:
            assert (await http.get("/page")).status_code

            async def counted() -> bytes:
                page = (await http.get("/_sluice/metrics")).content
                wanted = (b"sluice_delivery_attempts_count{", b"sluice_added_seconds_count ")
                return page if all(one in page for one in wanted) else b""

            await until(counted, timeout=20, what="all that was counted")
            assert promtool("check", "metrics", given=await counted()) == ""


def test_the_scrape_and_the_rules_load() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yaml")
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


def test_each_alert_fires_when_it_should_and_none_does_while_all_is_well() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yaml")
    tests = yaml.safe_load((RULES.parent / "rules_test.yaml").read_text())["tests"]
    alerts = {rule["alert"] for rule in rules()}
    well, *others = tests
    assert {one["alertname"] for one in well["alert_rule_test"]} == alerts
    fired = [one for test in others for one in test["alert_rule_test"]]
    assert {one["alertname"] for one in fired} == alerts
    assert all(len(one["exp_alerts"]) == 1 for one in fired)


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return found


def expressions() -> list[str]:
    """Of the dashboard."""
    panels = orjson.loads((EXAMPLES / "grafana" / "dashboard.json").read_bytes())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_the_dashboard_asks_what_promtool_understands_for_metrics_that_exist(tmp_path: Path) -> None:
    known = registered()
    asked = expressions()
    assert len(asked) > 20
    for one in asked:
        names = re.findall(r"\b(?:sluice|process)_\w+", one)
        assert names
        assert {name if name in known else re.sub("_(bucket|sum|count)$", "", name) for name in names} <= known
    recorded = [
        {"record": f"panel:{i}", "expr": one.replace("$__rate_interval", "1m").replace("$job", "sluice")}
        for i, one in enumerate(asked)
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert "SUCCESS" in promtool("check", "rules", str(file))


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    board = orjson.loads((EXAMPLES / "grafana" / "dashboard.json").read_bytes())
    assert {one["name"] for one in board["templating"]["list"]} == {"source", "job"}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
