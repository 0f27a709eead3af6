"""Several hosts with addresses of their own: one is cut off and comes back, and all are upgraded one by one and back.

The version before is a wheel beside this file. Namespaces need root, or a system that lets users have their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BEFORE = Path(__file__).parent / "sluice-0.1.0-py3-none-any.whl"
_OWN = ("unshare", "--net", "--mount", "--fork", "--kill-child")
_NAMESPACES = _OWN if os.geteuid() == 0 else (*_OWN, "--user", "--map-root-user")


def seen(*arguments: object) -> dict[str, Any]:
    """What a run in namespaces of its own saw."""
    assert shutil.which("haproxy"), (
        "install haproxy, which is the one address of several gateways: apt-get install haproxy"
    )
    done = subprocess.run(
        [*_NAMESPACES, sys.executable, "-m", "tests.apart.run", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-20_000:]
    told: dict[str, Any] = orjson.loads(done.stdout)
    return told


def test_a_host_that_is_cut_off_and_comes_back_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    told = seen("cut-off", tmp_path)
    assert (told["lost"], told["out_of_order"], told["run_twice"]) == ([], [], []), told
    assert told["emitted"] > 100, told
    # What is under way at a host when it is cut off is lost to whoever asked; the balancer asks no other one then.
    assert sum(told["failed_requests"].values()) <= told["requests"] * 0.05, told


def test_a_version_follows_the_one_before_while_all_goes_on_and_gives_way_to_it_again(tmp_path: Path) -> None:
    before = tmp_path / "before"
    with zipfile.ZipFile(BEFORE) as wheel:
        wheel.extractall(before)
    (tmp_path / "hosts").mkdir()
    told = seen("upgrade", tmp_path / "hosts", before)
    assert (told["lost"], told["out_of_order"]) == ([], []), told
    assert told["emitted"] > 100, told
    assert set(told["owners"]) == {"before", "to this version", "back again"}
    assert sum(told["failed_requests"].values()) <= told["requests"] * 0.05, told
