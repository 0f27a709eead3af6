"""What scripts/run and scripts/install put into .venv: with a python that only notes how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
  *sysconfig*) echo "$PWD/include" ;;
  *"import mypyc"*) exit 1 ;;
  *"hot_path.py build"*)
    echo "$* PYTHONPATH=$PYTHONPATH tools=$(ls -d .venv/build-tools.*)" >> calls
    exit "${BUILT:-0}" ;;
  *"pip install"*)
    echo "$*" >> calls
    [[ "$*" != *--target* ]] || mkdir -p "$(sed 's/.*--target \([^ ]*\).*/\1/' <<< "$*")" ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "Python.h").touch()
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    return tmp_path


def run(tree: Path, script: str, **environment: str) -> tuple[int, list[str]]:
    """The exit code, and how python was called."""
    ran = subprocess.run(
        ["bash", "-euc", f". scripts/environment.sh; {script}"],
        cwd=tree,
        env={"PATH": os.environ["PATH"], "CC": "true", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    calls = tree / "calls"
    return ran.returncode, calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize(
    ("what", "lock"),
    [("runtime", "requirements.lock"), ("browser", "requirements-browser.lock"), ("dev", "requirements-dev.lock")],
)
def test_all_that_is_installed_is_in_the_lock_file_with_hashes(tree: Path, what: str, lock: str) -> None:
    for file in ("pyproject.toml", lock):
        (tree / file).touch()
    code, (packages, ours) = run(tree, f"install_packages {what}")
    assert code == 0
    assert packages == f"-m pip install --quiet --disable-pip-version-check --require-hashes -r {lock}"
    assert "--no-deps --no-build-isolation -e ." in ours
    assert run(tree, f"install_packages {what}") == (0, [packages, ours]), "once is enough"


@pytest.mark.parametrize("built", [0, 1])
def test_what_compiles_stays_apart_and_goes_again(tree: Path, built: int) -> None:
    code, (install, build) = run(tree, "compile --while 7", BUILT=str(built))
    assert code == built
    tools = install.split("--target ")[1].split()[0]
    assert install.endswith(f" --require-hashes --target {tools} -r requirements-build.lock")
    assert build == f"scripts/hot_path.py build --while 7 PYTHONPATH={tree}/{tools} tools={tools}"
    assert list((tree / ".venv").glob("build-tools*")) == []


def test_what_a_killed_script_left_goes_with_the_next(tree: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, used = (tree / ".venv" / f"build-tools.{pid}" for pid in (gone.pid, os.getpid()))
    left.mkdir()
    used.mkdir()
    run(tree, "compile")
    assert (left.exists(), used.exists()) == (False, True)


def test_without_a_compiler_nothing_is_installed_for_it(tree: Path) -> None:
    (tree / "include" / "Python.h").unlink()
    assert run(tree, "is_root() { false; }; compile") == (0, [])
