"""The load tests' own modules are found as `locust -f` finds them: in the folder of the locust file; those of the other
benchmarks as these find them, in theirs."""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"

for folder in (BENCHMARKS / "locust", BENCHMARKS):  # behind all others: some programs there are named like packages
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
