"""`sluice history`: the charts of the console, as lines of a terminal."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sluice.cli import target
from sluice.cli.options import target_options
from sluice.cli.screen import print_json, screen, table
from sluice.console.actions.history import History, Line, ShowHistory
from sluice.console.messages.wording import age
from sluice.console.operations import SHOW_HISTORY
from sluice.history.rings import Range

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 48
_TITLES = {
    "requests": "requests",
    "upstreams": "upstream",
    "limits": "limit",
    "events": "events",
    "deliveries": "attempts",
    "waiting": "waiting",
    "oldest_seconds": "oldest",
    "dead": "dead letters",
    "circuits": "circuit",
    "upstream_circuits": "upstream circuit",
    "sessions": "sessions",
    "workers": "workers",
    "request_seconds": "request time",
    "delivery_seconds": "delivery time",
}
_COUNTED = ("requests", "upstreams", "limits", "events", "deliveries")
_TIMES = ("oldest_seconds", "request_seconds", "delivery_seconds")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--range", choices=get_args(Range), default="hour", help="default: hour")
    target_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    found = target.ask(options, SHOW_HISTORY, ShowHistory(options.range))
    if options.json:
        print_json(found)
    else:
        _print(found)


def last_hour(found: History) -> RenderableType:
    """In short: what was answered and delivered, and how fast."""
    brief = ("requests", "events", "deliveries", "request_seconds", "delivery_seconds")
    return Group(Text("the last hour", "bold"), _table([(name, getattr(found, name)) for name in brief]))


def _print(found: History) -> None:
    charts = [(field.name, getattr(found, field.name)) for field in fields(History) if field.name in _TITLES]
    out = screen()
    if not any(lines for _, lines in charts):
        out.print("nothing was counted yet; the first step is over after ten seconds")
        return
    began = found.began.strftime("%Y-%m-%d %H:%M:%S UTC")
    out.print(f"from {began} on, a bar for {age(found.step_s * _per_bar(found, charts))}")
    out.print(_table(charts))


def _table(charts: Sequence[tuple[str, Sequence[Line]]]) -> Table:
    made = table("", "of", "", "all", "most", "last")
    for column in made.columns[3:]:
        column.justify = "right"
    for name, lines in charts:
        for line in lines:
            made.add_row(
                f"{_TITLES[name]} {line.what}",
                "others" if line.others else line.of or "",
                Text(_bars(line.values), no_wrap=True),
                _number(name, sum(value or 0 for value in line.values)) if name in _COUNTED else "",
                _number(name, max((value for value in line.values if value is not None), default=None)),
                _number(name, line.values[-1]),
            )
    return made


def _per_bar(found: History, charts: Sequence[tuple[str, Sequence[Line]]]) -> int:
    steps = next(len(line.values) for _, lines in charts for line in lines)
    return -(-steps // _WIDTH)


def _bars(values: Sequence[float | None]) -> str:
    """The most of several steps where they do not fit; a blank where nobody was there."""
    each = -(-len(values) // _WIDTH)
    highest = [
        max((value for value in values[i : i + each] if value is not None), default=None)
        for i in range(0, len(values), each)
    ]
    top = max((value for value in highest if value is not None), default=0) or 1
    return "".join(" " if value is None else _BARS[min(7, int(value / top * 7.999))] for value in highest)


def _number(chart: str, value: float | None) -> str:
    if value is None:
        return "-"
    if chart in _TIMES:
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"
