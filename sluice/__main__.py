"""`python -m sluice` is the command `sluice`."""

from __future__ import annotations

import sys

from sluice.observe.preallocate import preallocate


def run() -> None:
    preallocate()
    from sluice.cli.main import main  # it imports what counts

    sys.exit(main())


run()
