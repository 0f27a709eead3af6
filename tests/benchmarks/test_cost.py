"""The comparison of two checkouts runs, here of this one with itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_two_checkouts_are_measured_beside_each_other() -> None:
    command = [sys.executable, "benchmarks/cost.py", "--against", str(ROOT), "--rounds", "1", "--count", "40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert rows == ["proxied request", "proxied request, three buckets", "accepted webhook", "delivery"], done.stderr
    assert "worst median ratio" in done.stdout
