"""The benchmark among strangers runs, and what holds on a busy machine as well is held: nobody who behaves is refused,
and the memory stays within its bar. How long answers take is for a quiet machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ATTACKS = [
    "slow readers",
    "slow writers of bodies",
    "slow writers of heads",
    "silent connections",
    "ping flood",
    "header flood",
    "big unsigned bodies",
]


@pytest.mark.slow
def test_among_all_attackers_at_once_a_client_is_answered_and_the_memory_stays_bounded() -> None:
    command = [sys.executable, "benchmarks/hostile.py", "--seconds", "12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    rows = {row[0]: row[1:] for row in cells}
    assert [name for name in rows if name in ATTACKS] == ATTACKS, done.stderr
    assert all(int(rows[name][1].replace(",", "")) > 0 for name in ATTACKS), "each has opened connections"
    assert int(rows["header flood"][2]) > 0
    assert rows["failed"][-1] == "met", done.stdout
    assert rows["gateway's memory"][-1] == "met", done.stdout
    assert re.fullmatch(r"[0-9.]+ ms", rows["p99"][1])
    assert done.returncode in (0, 1)
