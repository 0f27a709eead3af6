"""`sluice sessions`: who runs which login."""

from __future__ import annotations

import argparse
import sys

from sluice.cli.options import command, subcommands, target_options
from sluice.cli.screen import print_json, screen, table
from sluice.cli.target import ask
from sluice.console.actions.sessions import ListSessions, Session, SessionList, ShowSession
from sluice.console.operations import LIST_SESSIONS, SHOW_SESSION
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    target_options(command(commands, "list", "list them", _list))
    show = command(commands, "show", "everything about one", _show)
    show.add_argument("session")
    target_options(show)


def _list(options: argparse.Namespace) -> None:
    found = _all(options)
    if options.json:
        print_json(found)
        return
    if not found.sessions:
        sys.stdout.write("no sessions\n")
        return
    rows = table("session", "state", "phone", "worker", "lease")
    for one in found.sessions:
        lease = f"{one.lease_left:.0f}s" if one.lease_left is not None else "-"
        rows.add_row(*map(on_one_line, (one.session, one.state, one.phone or "-", one.worker or "nobody")), lease)
    out = screen()
    out.print(rows)
    unowned = sum(one.worker is None for one in found.sessions)
    out.print(f"{len(found.sessions)} sessions" + (f", {unowned} without a worker" if unowned else ""))


def _all(options: argparse.Namespace) -> SessionList:
    """Page after page."""
    found: dict[str, Session] = {}
    page = SessionList((), "")
    while page.after is not None:
        page = ask(options, LIST_SESSIONS, ListSessions(after=page.after))
        found.update((one.session, one) for one in page.sessions)
    return SessionList(tuple(found[name] for name in sorted(found)), None)


def _show(options: argparse.Namespace) -> None:
    print_json(ask(options, SHOW_SESSION, ShowSession(options.session)))
