"""Standard output: tables and lines for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluice.cli.streams import raw_output
from sluice.observe.printable import on_one_line, printable_json

_UNCUT = 4096


class _Screen(Console):
    """Each text that it is given, in cells of tables too, is escaped before it is measured, line ends included.

    A `Text` is not: make it of what `on_one_line` returns.
    """

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(on_one_line(text), **how)


def screen() -> Console:
    """As wide as the terminal; into a pipe or a file nothing is cut or folded. What it is given it prints as it is."""
    width = None if sys.stdout.isatty() else _UNCUT
    return _Screen(file=raw_output(), width=width, markup=False, emoji=False, highlight=False)


def table(first: str, *titles: str) -> Table:
    """The first column is there to be copied, so it is never folded."""
    made = Table(box=None, header_style="bold")
    made.add_column(first, no_wrap=True)
    for title in titles:
        made.add_column(title)
    return made


def print_rows(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; where the terminal is too narrow for it, a few lines for each row, the first of which is its first cell.

    The last cell is the longest: it has a line of its own there.
    """
    out, made = screen(), table(*titles)
    for row in rows:
        made.add_row(*row)
    wanted = Measurement.get(out, out.options.update_width(_UNCUT), made).maximum
    if wanted <= out.width:
        out.print(made)
        return
    for first, *middle, last in rows:
        out.print(first)
        for line in (" · ".join(middle), last):
            out.print(Padding(Text(on_one_line(line)), (0, 0, 0, 2)))


def print_json(value: object) -> None:
    """As the HTTP API answers it, but indented."""
    document = orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2).decode()
    sys.stdout.write(printable_json(document) + "\n")


def is_sure(question: str) -> bool:
    """Whether a person says yes; nobody does where no terminal is."""
    sys.stdout.flush()
    return sys.stdin.isatty() and input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
