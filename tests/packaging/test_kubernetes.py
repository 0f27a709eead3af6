"""deploy/kubernetes: judged by the schemas of Kubernetes and by kustomize, and compared with what there is.

No cluster runs here: nothing was applied.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from gateway.policies import Policies
from sluice.process.addresses import reached
from tests.packaging.deployed import (
    AT,
    DEPLOY,
    DRAINED,
    POLICIES,
    ROOT,
    SESSION_MB,
    WORKER_LEFT,
    keeps_the_promise,
    names_of,
    policies,
    refuse_unknown_command,
    size,
)

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    one
    for file in KUSTOMIZATION["resources"]
    if file.endswith(".yaml")
    for one in yaml.safe_load_all((FOLDER / file).read_text())
]
VERSIONS = ("1.31", "1.34", kubernetes_validate.latest_version())
SECRETS = names_of(FOLDER / "secrets.env.example")
PATHS = {"gateway": "/_sluice/healthz", "worker": "/health/live"}
Object = dict[str, Any]


def of(kind: str) -> dict[str, Object]:
    """By their names."""
    return {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == kind}


WORKLOADS = {**of("Deployment"), **of("StatefulSet")}
PODS: dict[str, Object] = {name: one["spec"]["template"] for name, one in WORKLOADS.items()}
CONTAINERS: dict[str, Object] = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}
OURS = [name for name, container in CONTAINERS.items() if container["image"].startswith("sluice")]


def selected(labels: dict[str, str]) -> set[str]:
    """The workloads whose pods have these labels."""
    return {name for name, pod in PODS.items() if labels.items() <= pod["metadata"]["labels"].items()}


@pytest.fixture(scope="module")
def deployed() -> Policies:
    return policies(SECRETS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_takes_each_of_them(one: Object, version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_a_key_that_kubernetes_does_not_know_would_be_found() -> None:
    wrong = {**of("Service")["gateway"], "spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here, so kustomize has not judged them")
def test_kustomize_puts_them_together() -> None:
    ran = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    made = list(yaml.safe_load_all(ran.stdout))
    assert len(made) == len(OBJECTS) + 1
    (policies_of_it,) = [one for one in made if one["kind"] == "ConfigMap"]
    assert policies_of_it["metadata"] == {"name": "sluice-policies", "namespace": "sluice"}
    assert policies_of_it["data"] == {"policies.yaml": POLICIES.read_text()}
    images = re.findall(r"image: (\S+)", ran.stdout)
    assert [image for image in images if image.startswith("sluice")] == [], "those are names that stand for others"


@pytest.mark.parametrize("name", OURS)
def test_each_process_is_started_by_a_command_that_there_is(name: str) -> None:
    known = {one["name"]: "10.0.0.1" for one in CONTAINERS[name].get("env", [])}
    arguments = [re.sub(r"\$\((\w+)\)", lambda it: known[it[1]], one) for one in CONTAINERS[name]["args"]]
    refuse_unknown_command(arguments)
    mounted = {one["name"]: one["mountPath"] for one in CONTAINERS[name]["volumeMounts"]}
    assert mounted["policies"] == str(Path(AT).parent)
    (volume,) = [one for one in PODS[name]["spec"]["volumes"] if one["name"] == "policies"]
    assert volume["configMap"]["name"] == "sluice-policies"
    assert CONTAINERS[name]["envFrom"] == [{"secretRef": {"name": "sluice-secrets"}}]


@pytest.mark.parametrize("name", PODS)
def test_each_pod_may_do_little(name: str) -> None:
    pod, container = PODS[name]["spec"], CONTAINERS[name]["securityContext"]
    assert not pod["automountServiceAccountToken"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    profile = "Unconfined" if name == "worker" else "RuntimeDefault"
    assert pod["securityContext"]["seccompProfile"] == {"type": profile}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= CONTAINERS[name]["resources"]["requests"].keys()
    assert "memory" in CONTAINERS[name]["resources"]["limits"]


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_what_there_is(name: str) -> None:
    container = CONTAINERS[name]
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    probes = [container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe") if probe in container]
    assert probes or name == "relay"
    for probe in probes:
        asked = probe.get("httpGet") or probe.get("tcpSocket")
        assert asked is None or asked["port"] in ports
        if "httpGet" in probe:
            assert asked["path"] == PATHS[name]


def test_a_pod_has_the_time_that_it_takes_to_stop(deployed: Policies) -> None:
    longest = max(endpoint.timeout for endpoint in deployed.relay.receivers.values())
    needed = {"gateway": 5.0 + DRAINED, "relay": longest + 5.0, "worker": WORKER_LEFT}
    assert CONTAINERS["gateway"]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    for name in OURS:
        assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > needed[name], name


def test_what_has_to_be_kept_is_on_a_disk() -> None:
    claims = {
        name: [one["metadata"]["name"] for one in it["spec"]["volumeClaimTemplates"]]
        for name, it in of("StatefulSet").items()
    }
    assert claims == {"worker": ["data"], "valkey": ["data"]}
    places = {
        name: {one["name"]: one["mountPath"] for one in CONTAINERS[name]["volumeMounts"]}["data"] for name in claims
    }
    assert places == {"worker": "/var/lib/sluice", "valkey": "/data"}


def test_its_valkey_keeps_what_a_202_promises(short_folder: Path) -> None:
    arguments = CONTAINERS["valkey"]["args"]
    assert arguments[:2] == ["--dir", "/data"]
    keeps_the_promise(arguments[2:], short_folder)
    assert size(CONTAINERS["valkey"]["resources"]["limits"]["memory"]) >= 2 * size("2gb")


def test_labels_lead_to_pods() -> None:
    for name, one in WORKLOADS.items():
        assert selected(one["spec"]["selector"]["matchLabels"]) == {name}
    for one in of("PodDisruptionBudget").values():
        assert selected(one["spec"]["selector"]["matchLabels"]) == {one["metadata"]["name"]}
    for name, one in of("Service").items():
        assert selected(one["spec"]["selector"]) == {name.removesuffix("-admin")}
        (target,) = selected(one["spec"]["selector"])
        ports = {port["name"] for port in CONTAINERS[target]["ports"]}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports


def test_only_whom_it_concerns_reaches_a_pod() -> None:
    allowed = of("NetworkPolicy")
    assert allowed.pop("nobody")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, one in allowed.items():
        assert selected(one["spec"]["podSelector"]["matchLabels"]) == {name}
    sources = {
        name: {source for rule in one["spec"]["ingress"] for at in rule.get("from", []) if "podSelector" in at
               for source in selected(at["podSelector"]["matchLabels"])}
        for name, one in allowed.items()
    }  # fmt: skip
    assert sources == {"gateway": set(), "worker": {"gateway"}, "valkey": {"gateway", "relay", "worker"}}


def test_what_is_scaled_is_not_counted_by_hand_and_goes_by_metrics_that_there_are() -> None:
    for name, one in of("HorizontalPodAutoscaler").items():
        target = one["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == (WORKLOADS[name]["kind"], name)
        assert "replicas" not in WORKLOADS[name]["spec"]
    (metric,) = of("HorizontalPodAutoscaler")["worker"]["spec"]["metrics"]
    wanted = metric["external"]["metric"]["name"]
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert f"| `{wanted}` |" in (ROOT / "docs" / "operations.md").read_text()
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    assert (rule["seriesQuery"], rule["name"], rule["metricsQuery"]) == (wanted, {"as": wanted}, f"max({wanted})")
    scraped = PODS["gateway"]["metadata"]["annotations"]
    ports = {str(port["containerPort"]): port["name"] for port in CONTAINERS["gateway"]["ports"]}
    assert ports[scraped["prometheus.io/port"]] == "admin"
    assert scraped["prometheus.io/path"] == "/_sluice/metrics"


def test_the_policies_name_the_services(deployed: Policies) -> None:
    assert urlsplit(deployed.store.url).hostname in of("Service")
    ports = {port["name"]: port["containerPort"] for port in CONTAINERS["gateway"]["ports"]}
    assert urlsplit(reached(deployed.listen).url).port == ports["http"]
    assert urlsplit(reached(deployed.admin.listen).url).port == ports["admin"]
    assert f"--gateway=http://gateway:{ports['http']}" in CONTAINERS["worker"]["args"]
    limit = size(CONTAINERS["worker"]["resources"]["limits"]["memory"])
    (shared,) = [one["emptyDir"]["sizeLimit"] for one in PODS["worker"]["spec"]["volumes"] if one["name"] == "shm"]
    assert limit >= deployed.sessions.per_worker * SESSION_MB * 1024**2 + size(shared)
