"""What somebody gets who installs Sluice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "relay", "sessions", "sluice")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of its files."""
    sources, made = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("made")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "policies.yaml"):
        shutil.copy(ROOT / file, sources)
    for stranger in ("gateway_old", "tests", "benchmarks"):
        (sources / stranger).mkdir()
        (sources / stranger / "__init__.py").touch()
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", made, sources],
        env={**os.environ, "SLUICE_PURE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = made.glob("*.whl")
    assert file.name.endswith("-py3-none-any.whl")
    return set(ZipFile(file).namelist())


def test_it_adds_four_names_and_no_other(wheel: set[str]) -> None:
    top_level = {name.partition("/")[0] for name in wheel}
    assert {name for name in top_level if not name.endswith(".dist-info")} == set(PACKAGES)


def test_everything_in_the_packages_is_in_it(wheel: set[str]) -> None:
    files = {str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.*")}
    ours = {name for name in files if not name.endswith((".so", ".pyc"))} | {"sluice/cli/policies.yaml"}
    assert {name.rpartition(".")[2] for name in ours} == {"py", "lua", "html", "js", "css", "yaml", "typed"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= ours
    assert {name for name in wheel if name.startswith(tuple(f"{package}/" for package in PACKAGES))} == ours
