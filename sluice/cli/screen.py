"""Standard output for tables."""

from __future__ import annotations

import sys

from rich.console import Console

_UNCUT = 4096


def screen() -> Console:
    """As wide as the terminal; into a pipe or a file nothing is cut or folded. What it is given it prints as it is."""
    width = None if sys.stdout.isatty() else _UNCUT
    return Console(width=width, markup=False, emoji=False, highlight=False)
