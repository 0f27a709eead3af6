"""`sluice event`: what has happened to one event, and why it is not there yet."""

from __future__ import annotations

import argparse
from datetime import datetime

from sluice.cli.options import target_options
from sluice.cli.screen import print_json, screen
from sluice.cli.target import ask
from sluice.console.actions.events import EventDetails, ShowEvent
from sluice.console.operations import SHOW_EVENT
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id")
    target_options(parser)
    parser.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> None:
    event = ask(options, SHOW_EVENT, ShowEvent(options.id))
    if options.json:
        print_json(event)
    else:
        _print(event)


def _print(event: EventDetails) -> None:
    session = f"session {event.session}" if event.session else "no session"
    size = f", {event.bytes} bytes" if event.bytes is not None else ""
    lines = [
        f"{event.id}: {event.event or 'an event'} of {session}, {event.lane}{size}",
        f"{_moment(event.accepted_at)}  accepted",
    ]
    for name, part in event.endpoints.items():
        lines += ["", f"{name}: {part.why}"]
        for attempt in part.attempts:
            reason = f": {attempt.reason}" if attempt.reason else ""
            lines.append(f"{_moment(attempt.at)}  {attempt.status or 'no answer'} after {attempt.ms:g}ms{reason}")
        if part.at:
            lines.append(f"{_moment(part.at)}  {part.state}")
    out = screen()
    for line in lines:
        out.print(on_one_line(line))


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
