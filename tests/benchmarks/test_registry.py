"""The registry's benchmark, a short one: what does not depend on how fast this machine is now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "registry.py"


@pytest.mark.slow
def test_a_session_takes_little_memory_and_a_known_owner_no_round_trip() -> None:
    command = [sys.executable, str(BENCHMARK), "--sessions", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "| round trips for requests to known owners | 0 for 10,000 |" in done.stdout, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("| bytes of a session beside its history")]
    assert 100 < int(line.split("|")[2]) <= 600
    assert "bytes a session" not in done.stdout
