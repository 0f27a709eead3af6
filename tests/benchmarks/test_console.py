"""The console's benchmark does all of its work, in small: what it says of the machine is not judged here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "console.py"


def test_it_measures_scrapes_pages_and_viewers() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a bar is missed, as it may be on a busy machine
    number = r"-?[\d.,]+"
    for line in (
        rf"a scrape with 200 sessions, CPU: {number} ms \(at most 3 ms\)",
        rf"the page for the first time, at worst {number} ms: {number} ms \(at most 200 ms\)",
        rf"the page again, at worst {number} ms: {number} ms \(at most 200 ms\)",
        rf"dead letters, at worst {number} ms: {number} ms \(at most 200 ms\)",
        rf"a viewer, of a core of the gateway, rounds {number} to {number} %: {number} % \(at most 2 %\)",
        rf"p99 of the proxy with 3 viewers: {number} ms",
        rf"median of the rounds' ratios, rounds {number} to {number}: {number} \(at most 1\.10\)",
    ):
        assert re.search(rf"^{line}( MISSED)?$", done.stdout, re.MULTILINE), done.stdout
