"""Where there is no compiler Sluice is plain Python: the same files, judged by the same tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JUDGES = (
    "tests/sluice/http/client",
    "tests/sluice/http/server/test_protocol.py",
    "tests/sluice/store/test_connection.py",
    "tests/gateway/proxy/test_bytes.py",
    "tests/relay/dispatch/test_loop.py",
)
ROOMS = ("gateway", "relay", "sessions", "sluice", "tests")


@pytest.mark.skipif(not list((ROOT / "sluice").glob("*.so")), reason="all tests run as plain Python already")
def test_what_is_compiled_does_the_same_as_plain_python(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (tmp_path / "scripts").mkdir()
    for file in ("pyproject.toml", "setup.py", "scripts/hot_path.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *JUDGES],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
