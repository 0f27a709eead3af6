"""Standard output: tables and lines for people, JSON for programs."""

from __future__ import annotations

import re
import sys

import orjson
from rich.console import Console
from rich.table import Table

_UNCUT = 4096
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def screen() -> Console:
    """As wide as the terminal; into a pipe or a file nothing is cut or folded. What it is given it prints as it is."""
    width = None if sys.stdout.isatty() else _UNCUT
    return Console(width=width, markup=False, emoji=False, highlight=False)


def printable(text: str) -> str:
    """What others have written, with its control characters escaped: it must not steer a person's terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def table(first: str, *titles: str) -> Table:
    """The first column is there to be copied, so it is never folded."""
    made = Table(box=None, header_style="bold")
    made.add_column(first, no_wrap=True)
    for title in titles:
        made.add_column(title)
    return made


def print_json(value: object) -> None:
    """As the HTTP API answers it, but indented."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2).decode() + "\n")
