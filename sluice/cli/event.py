"""`sluice event`: what has happened to one event, and why it is not there yet; found, sent once more, or as a test."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime

from sluice.cli import event_resend
from sluice.cli.errors import CommandError
from sluice.cli.options import count, moment, rate, target_options
from sluice.cli.screen import print_json, print_rows, screen
from sluice.cli.target import ask
from sluice.console.actions.endpoint_trial import TryEndpoint
from sluice.console.actions.events import EventDetails, ShowEvent
from sluice.console.actions.finding import FindEvents
from sluice.console.operations import FIND_EVENTS, SHOW_EVENT, TRY_ENDPOINT
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID | find | resend | try", help="an event; or find, resend or try, and which")
    parser.add_argument("ids", nargs="*", metavar="ID", help="resend: these that were delivered; try: the endpoint")
    parser.add_argument("--session", metavar="ID", help="find, resend: of this session")
    parser.add_argument("--type", metavar="TYPE", help="find, resend: of this event type or glob")
    parser.add_argument("--endpoint", metavar="NAME", help="find, resend: for this endpoint")
    since = "find: accepted since a moment, or 2h ago; resend: delivered since then"
    parser.add_argument("--since", type=moment, metavar="WHEN", help=since)
    parser.add_argument("--limit", type=count, metavar="N", help="find: at most so many (default: 100)")
    parser.add_argument("--until", type=moment, metavar="WHEN", help="resend: delivered before it")
    parser.add_argument("--path", metavar="PATH", help="try: behind the endpoint's url")
    parser.add_argument("--dry-run", action="store_true", help="try: only say what would be sent")
    parser.add_argument("--all", action="store_true", help="resend: all that the filters leave")
    parser.add_argument("--rate", type=rate, metavar="RATE", help="resend: 1000/minute at most")
    parser.add_argument("--yes", action="store_true", help="resend: do it; without it only what would happen is said")
    target_options(parser)
    parser.set_defaults(run=_run)


_OF_RESEND = ("until", "all", "rate", "yes")
_OF_BOTH = ("session", "type", "endpoint", "since")


def _run(options: argparse.Namespace) -> int:
    if options.id == "try":
        _refuse(options, ("limit", "since"), "find")
        _refuse(options, (*_OF_RESEND, "endpoint"), "resend")
        return _try(options)
    _refuse(options, ("path", "dry_run"), "try")
    if options.id == "resend":
        _refuse(options, ("limit",), "find")
        return event_resend.run(options)
    _refuse(options, _OF_RESEND, "resend")
    if options.ids:
        raise CommandError("one event at a time: sluice event ID; several go with resend: sluice event resend ID ID")
    if options.id == "find":
        _find(options)
        return 0
    _refuse(options, (*_OF_BOTH, "limit"), "find")
    event = ask(options, SHOW_EVENT, ShowEvent(options.id))
    if options.json:
        print_json(event)
    else:
        _print(event)
    return 0


def _try(options: argparse.Namespace) -> int:
    if len(options.ids) != 1:
        raise CommandError("say to which endpoint: sluice event try ENDPOINT")
    request = TryEndpoint(
        endpoint=options.ids[0],
        event=options.type or "sluice_test",
        path=options.path or "",
        session=options.session or "",
        dry_run=options.dry_run,
    )
    tried = ask(options, TRY_ENDPOINT, request)
    if options.json:
        print_json(tried)
        return 0
    signed = "signed" if tried.signed else "not signed, as the endpoint has no sign"
    line = f"{tried.body} {'would go' if tried.id is None else 'goes'} to {tried.url}, {signed}"
    follow = [] if tried.id is None else [f"sluice event {tried.id} says what becomes of it"]
    sys.stdout.write("".join(f"{on_one_line(one)}\n" for one in (line, *follow)))
    return 0


def _refuse(options: argparse.Namespace, names: Sequence[str], verb: str) -> None:
    """Options that go with `verb` only."""
    if given := [name for name in names if getattr(options, name) not in (None, False)]:
        raise CommandError(f"--{given[0]} goes with {verb}: sluice event {verb} --{given[0]} …")


def _find(options: argparse.Namespace) -> None:
    request = FindEvents(
        session=options.session,
        event=options.type,
        endpoint=options.endpoint,
        since=options.since,
        limit=100 if options.limit is None else options.limit,
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
        f"{_moment(event.accepted_at)}  accepted{f', trace {event.trace}' if event.trace else ''}",
    ]
    for name, part in event.endpoints.items():
        lines += ["", f"{name}: {part.why}"]
        for attempt in part.attempts:
            reason = f": {attempt.reason}" if attempt.reason else ""
            lines.append(f"{_moment(attempt.at)}  {attempt.status or 'no answer'} after {attempt.ms:g}ms{reason}")
        if part.at:
            lines.append(f"{_moment(part.at)}  {part.state}")
        if part.kept_until:
            command = f"sluice event resend {event.id} --endpoint {name}"
            lines.append(f"{_moment(part.kept_until)}  is how long its body is kept: {command}")
    out = screen()
    for line in lines:
        out.print(on_one_line(line))


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
