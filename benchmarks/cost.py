"""What a request, a webhook and a delivery cost in CPU, beside another checkout: `cost.py --against ../before`.

Both checkouts run at the same time, each with its own store, gateway and relay; the load goes from one to the other in
short slices, so that a change of the machine's speed falls on both. Ratios are taken within a round. The other checkout
is to be compiled as this one is (`scripts/install` in it), and may be of the time before `python -m sluice`.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)
sys.path[:] = [str(Path(_HERE).parent), *(entry for entry in sys.path if entry != _HERE), _HERE]

if __name__ == "__main__":
    from comparing.main import main

    sys.exit(main())
