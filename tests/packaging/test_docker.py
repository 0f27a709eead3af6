"""deploy/docker: judged by hadolint and by the schema of compose files, and compared with what there is.

No container engine runs here: no image was built, and compose has started nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.policies import Policies
from sluice.process.addresses import reached
from tests.packaging.deployed import (
    DEPLOY,
    DRAINED,
    ROOT,
    SESSION_MB,
    WORKER_LEFT,
    keeps_the_promise,
    names_of,
    policies,
    refuse_unknown_command,
    size,
)

FOLDER = DEPLOY / "docker"
FILES = sorted(FOLDER.glob("*Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one.get("image", "").startswith("sluice")}
TOOLS = Path(sys.executable).parent


def run(tool: str, *arguments: str | Path) -> tuple[int, str]:
    ran = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def stages(file: Path) -> dict[str, list[str]]:
    """The instructions of each stage, by its name."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE)).splitlines():
        if match := re.match(r"FROM \S+(?: AS (\S+))?$", line):
            found[match[1] or ""] = []
        elif line.strip():
            found[list(found)[-1]].append(line)
    return found


@pytest.fixture(scope="module")
def deployed() -> Policies:
    return policies(names_of(FOLDER / "secrets.env.example"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    assert run("hadolint", "--failure-threshold", "style", file) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN apt-get install curl\n")
    code, said = run("hadolint", tmp_path / "Dockerfile")
    assert code == 1
    assert "DL3006" in said


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_copied_is_there_and_sent_to_the_engine(file: Path) -> None:
    sent = {line[1:] for line in Path(f"{file}.dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in (line for stage in stages(file).values() for line in stage if line.startswith("COPY ")):
        if "--from=" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line
                assert source in sent, f"{file.name}.dockerignore leaves {source} out"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nobody_is_root_in_what_is_shipped(file: Path) -> None:
    shipped = {name: one for name, one in stages(file).items() if name in ("", "sluice", "worker")}
    for name, stage in shipped.items():
        users = [line.split()[1] for line in stage if line.startswith("USER ")]
        assert re.fullmatch(r"1\d{4}:1\d{4}", users[-1]), name


def test_packages_come_by_their_lock_files() -> None:
    for line in (line for stage in stages(FOLDER / "Dockerfile").values() for line in stage if "pip install" in line):
        for install in line.split("&&"):
            if "pip install" in install:
                assert "--require-hashes" in install or "--no-deps /wheels/*.whl" in install, install


def test_the_image_is_healthy_while_a_gateway_answers() -> None:
    (check,) = [line for line in stages(FOLDER / "Dockerfile")["sluice"] if line.startswith("HEALTHCHECK")]
    asked = re.findall(r"urlopen\('http://127\.0\.0\.1:8080(\S+)'", check)
    assert asked == ["/_sluice/healthz"]


def test_compose_files_may_say_what_this_one_says() -> None:
    code, said = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml")
    assert code == 0, said


@pytest.mark.parametrize("name", OURS)
def test_each_service_of_ours_is_started_by_a_command_that_there_is(name: str) -> None:
    refuse_unknown_command(OURS[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_each_service_of_ours_may_do_little(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert ("seccomp=unconfined" in service["security_opt"]) == (service["command"][0] == "worker")
    assert {volume["target"] for volume in service["volumes"]} == {"/etc/sluice", "/var/lib/sluice"}


def test_a_service_has_the_time_that_it_takes_to_stop(deployed: Policies) -> None:
    longest = max(endpoint.timeout for endpoint in deployed.relay.receivers.values())
    needed = {"gateway": DRAINED, "relay": longest + 5.0, "worker": WORKER_LEFT}
    for name, service in OURS.items():
        assert float(service["stop_grace_period"].removesuffix("s")) > needed[service["command"][0]], name


def test_the_policies_name_the_services(deployed: Policies) -> None:
    urls = [deployed.store.url, *(one.url for one in deployed.relay.receivers.values())]
    urls += [member for upstream in deployed.upstreams.values() for member in upstream.urls]
    for url in urls:
        assert urlsplit(url).hostname in SERVICES, url
    published = {port.rpartition(":")[2] for port in SERVICES["gateway"]["ports"]}
    assert {urlsplit(reached(it).url).port for it in (deployed.listen, deployed.admin.listen)} == {*map(int, published)}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["gateway"]["ports"])


def test_a_worker_and_its_gateway_reach_each_other(deployed: Policies) -> None:
    workers = {name: one for name, one in OURS.items() if one["command"][0] == "worker"}
    assert workers
    for name, service in workers.items():
        given = dict(option.split("=", 1) for option in service["command"][1:])
        assert given["--name"] == name
        assert given["--listen"] == f"{name}:3000"
        assert given["--gateway"] == f"http://gateway:{urlsplit(reached(deployed.listen).url).port}"
        assert f"http://{name}:3000/health/live" in service["healthcheck"]["test"][-1]
        browsers = deployed.sessions.per_worker * SESSION_MB * 1024**2
        assert size(service["mem_limit"]) >= browsers + size(service["shm_size"])


def test_its_valkey_keeps_what_a_202_promises(short_folder: Path) -> None:
    keeps_the_promise(SERVICES["valkey"]["command"], short_folder)


def test_each_volume_that_is_named_is_declared() -> None:
    used = {one["source"] for service in SERVICES.values() for one in service["volumes"] if one["type"] == "volume"}
    assert used == set(COMPOSE["volumes"])
