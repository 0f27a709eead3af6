"""The load tests' own modules are found as `locust -f` finds them: in the folder of the locust file."""

from __future__ import annotations

import sys
from pathlib import Path

LOCUST = Path(__file__).parent.parent.parent / "benchmarks" / "locust"

if str(LOCUST) not in sys.path:
    sys.path.append(str(LOCUST))
