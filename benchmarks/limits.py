"""The limiter: how many decisions, how exact, how much memory; side by side with the library `limits` on one store.

    .venv/bin/python benchmarks/limits.py --quick        in a minute: does all of it work
    .venv/bin/python benchmarks/limits.py --json raw.json > table.md
    .venv/bin/python benchmarks/limits.py --part rates   or accuracy, or memory

rates      one process at 32 in flight: decisions/s, CPU of the process and of the store for each, round trips for each;
           Sluice with one and with three buckets, and `limits`' fixed window on redis-py with one and with three hits
accuracy   four processes and 200 tasks on a few buckets: how much more passed than an exact bucket allows, and how
           many were refused although there was a token
memory     a million live buckets: bytes for each in the store; and whether they go by themselves when they are full

One store for all of it, embedded as `sluice up` has it, on a core of its own where there are two. Rates are taken in
several rounds (A B C, A B C, …), so that a noisy minute falls on all. A bar that is missed makes the exit code 1.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)

# This file hides the library of the same name from whoever runs a program in this folder. So the folder comes last on
# the path, and whoever imports `limits` gets the library after all.
sys.path[:] = [*(entry for entry in sys.path if entry != _HERE), _HERE]

if __name__ == "__main__":
    sys.path.append(f"{_HERE}/locust")  # the oracle
    sys.exit(importlib.import_module("limiting.main").main())
else:
    del sys.modules[__name__]
    importlib.import_module(__name__)
