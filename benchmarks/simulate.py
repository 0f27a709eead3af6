"""Past these machines: what many sessions and events need, what gives way first, how the loss of a region plays out.

    .venv/bin/python benchmarks/simulate.py                              1,000,000 sessions, 100,000 events/s
    .venv/bin/python benchmarks/simulate.py --cells 10                   the same in ten deployments
    .venv/bin/python benchmarks/simulate.py --sessions 2000 --events 500 numbers of yours
    .venv/bin/python benchmarks/simulate.py --check                      predictions beside a real run, in 3 minutes

docs/scale.md says what comes of it, and what the model leaves out. One seed is always one run.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)

# This file hides the package of the same name from whoever runs a program in this folder.
sys.path[:] = [str(Path(_HERE).parent), *(entry for entry in sys.path if entry != _HERE), _HERE]

if __name__ == "__main__":
    from simulating.main import main

    sys.exit(main())
