"""`sluice event`: what has happened to one event, and why it is not there yet."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime

from sluice.cli.errors import CommandError
from sluice.cli.options import count, moment, target_options
from sluice.cli.screen import print_json, print_rows, screen
from sluice.cli.target import ask
from sluice.console.actions.events import EventDetails, ShowEvent
from sluice.console.actions.finding import FindEvents
from sluice.console.operations import FIND_EVENTS, SHOW_EVENT
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID | find", help="an event; or find, and which")
    parser.add_argument("--session", metavar="ID", help="find: of this session")
    parser.add_argument("--type", metavar="TYPE", help="find: of this event type or glob")
    parser.add_argument("--endpoint", metavar="NAME", help="find: for this endpoint")
    parser.add_argument("--since", type=moment, metavar="WHEN", help="find: accepted since a moment, or 2h ago")
    parser.add_argument("--limit", type=count, default=100, metavar="N", help="find: at most so many (default: 100)")
    target_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.id == "find":
        _find(options)
        return
    if given := [name for name in ("session", "type", "endpoint", "since") if getattr(options, name) is not None]:
        raise CommandError(f"--{given[0]} goes with find: sluice event find --{given[0]} …")
    event = ask(options, SHOW_EVENT, ShowEvent(options.id))
    if options.json:
        print_json(event)
    else:
        _print(event)


def _find(options: argparse.Namespace) -> None:
    request = FindEvents(
        session=options.session,
        event=options.type,
        endpoint=options.endpoint,
        since=options.since,
        limit=options.limit,
    )
    found = ask(options, FIND_EVENTS, request)
    if options.json:
        print_json(found)
        return
    if not found.events:
        sys.stdout.write("no such event is known\n")
    else:
        rows = [
            (one.id, one.endpoint, one.event or "-", one.session or "-", one.state, _moment(one.accepted_at))
            for one in found.events
        ]
        print_rows(("id", "endpoint", "event", "session", "state", "accepted"), rows)
    if not found.complete:
        sys.stdout.write("there may be more: raise --limit, or give --session, --endpoint or --since\n")


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


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
