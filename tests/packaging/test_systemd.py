"""The units of deploy/systemd, judged by systemd's own tools. No systemd runs here, so none of them is started."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.cli.main import whole_parser

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
NAMES = sorted(file.name for file in UNITS.glob("*.service"))
STARTED = [name.replace("@.", "@w1.") for name in NAMES]
MOST_EXPOSED = {unit: 24 if "worker" in unit else 18 for unit in STARTED}
"""In tenths of what `systemd-analyze security` counts from 0, best, to 10."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a machine on which they are installed, as docs/production.md says."""
    root = tmp_path_factory.mktemp("machine")
    folder = root / "etc" / "systemd" / "system"
    shutil.copytree(UNITS, folder)
    for target in ("sysinit", "basic", "shutdown", "network-online", "multi-user"):
        (folder / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    command = root / "opt" / "sluice" / "bin" / "sluice"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    return root


def analyze(*arguments: str) -> tuple[int, str]:
    ran = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("unit", STARTED)
def test_systemd_finds_nothing_wrong(installed: Path, unit: str) -> None:
    assert analyze("verify", f"--root={installed}", "--man=no", unit) == (0, "")


def test_a_mistake_would_be_found(installed: Path) -> None:
    folder = installed / "etc" / "systemd" / "system"
    (folder / "sluice-wrong.service").write_text("[Service]\nExecStart=/opt/sluice/bin/sluice\nWatchdogSecs=30\n")
    code, said = analyze("verify", f"--root={installed}", "--man=no", "sluice-wrong.service")
    assert "Unknown key 'WatchdogSecs'" in said, code


@pytest.mark.parametrize("unit", STARTED)
def test_what_a_unit_may_do_is_little(installed: Path, unit: str) -> None:
    code, said = analyze("security", "--offline=true", f"--root={installed}", f"--threshold={MOST_EXPOSED[unit]}", unit)
    assert code == 0, said


def commands() -> Iterator[tuple[str, list[str]]]:
    for name in NAMES:
        (started,) = re.findall("^ExecStart=(.*)$", (UNITS / name).read_text(), re.MULTILINE)
        program, *arguments = shlex.split(started)
        assert program == "/opt/sluice/bin/sluice"
        filled = {"%i": "w1", "${SLUICE_LISTEN}": "127.0.0.1:0", "${SLUICE_GATEWAY}": "http://127.0.0.1:8080"}
        yield name, [filled.get(argument, argument) for argument in arguments]


@pytest.mark.parametrize(("unit", "arguments"), list(commands()))
def test_a_unit_starts_a_command_that_there_is(unit: str, arguments: list[str]) -> None:
    options = whole_parser().parse_args(arguments)
    assert options.policies == Path("/etc/sluice/policies.yaml"), unit


def test_a_worker_keeps_what_its_browsers_need_over_what_all_have_in_common(installed: Path) -> None:
    code, said = analyze("security", "--offline=true", f"--root={installed}", "--no-pager", "sluice-worker@w1.service")
    assert code == 0
    assert "✗ MemoryDenyWriteExecute=" in said, "Chromium compiles JavaScript"
    assert "✗ RestrictNamespaces=~user" in said, "and keeps its renderers in namespaces of their own"
