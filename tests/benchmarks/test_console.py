"""The console's benchmark does all of its work, in small: what it says of the machine is not judged here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "console.py"


def test_it_measures_scrapes_and_consoles() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a bar is missed, as it may be on a busy machine
    assert re.search(r"^a scrape with 200 sessions: -?\d+\.\d\d ms of CPU \(at most 3\)$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^p99 of the proxy with 3 consoles and 400 sessions: \d+\.\d\d ms, without \d+\.\d\d ms; median of the "
        r"rounds' ratios \d+\.\d\d \(at most 1\.1\)$",
        done.stdout,
        re.MULTILINE,
    )
