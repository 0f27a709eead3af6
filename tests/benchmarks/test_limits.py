"""The limiter's benchmark: how it judges what it saw, and that its name is in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.limiting.accuracy import Seen, judged

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def test_an_exact_bucket_is_found_exact() -> None:
    seen = [Seen(0, n * 0.05, n * 0.05 + 0.01, n < 10 or n % 20 == 0) for n in range(200)]
    found = judged(seen, rate=1.0, burst=10, elapsed=9.96)
    assert (found.passed, found.refused) == (19, 181)
    assert (found.over_in_window, found.wrongly_refused) == (0, 0)
    assert found.over_by_clock == pytest.approx(-0.96)
    assert found.left_over == pytest.approx(0.96)


def test_one_too_many_is_found_by_the_clock_and_in_a_window() -> None:
    seen = [Seen(0, 5.0, 5.0, True) for _ in range(11)] + [Seen(1, 0.0, 0.0, True)]
    found = judged(seen, rate=0.001, burst=10, elapsed=5.0)
    assert found.over_in_window == 1
    assert found.over_by_clock == pytest.approx(1 - 0.005)


def test_a_refusal_while_there_was_a_token_is_found() -> None:
    seen = [Seen(0, 0.0, 0.1, True), Seen(0, 0.0, 0.1, False), Seen(0, 8.0, 8.1, False)]
    assert judged(seen, rate=1.0, burst=2, elapsed=8.1).wrongly_refused == 2
    assert judged(seen, rate=0.1, burst=1, elapsed=8.1).wrongly_refused == 0


def test_four_processes_let_no_more_pass_than_one_bucket() -> None:
    """The benchmark itself, a short one: two hundred tasks in four processes on a store of its own."""
    command = [sys.executable, str(BENCHMARKS / "limits.py"), "--part", "accuracy", "--seconds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| passed beyond burst + rate x time, by the store's clock | 0 | 0 |" in done.stdout
    assert "| the same in any shorter window | 0 | 0 |" in done.stdout


@pytest.mark.parametrize("name", ["limits.py", "proxy.py", "memory.py"])
def test_every_benchmark_starts(name: str) -> None:
    """All of them need the library `limits`, which a file of this name in their folder would hide."""
    command = [sys.executable, str(BENCHMARKS / name), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
