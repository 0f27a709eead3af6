"""`sluice sessions`: who runs which login."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from sluice.cli import (
    session_cleaning,
    session_closing,
    session_import,
    session_migration,
    session_moves,
    session_pairing,
    session_rebalancing,
    session_watching,
)
from sluice.cli.options import command, subcommands, target_options
from sluice.cli.screen import print_json, screen, table
from sluice.cli.target import ask
from sluice.console.actions.sessions import ListSessions, Session, SessionList, ShowSession
from sluice.console.operations import LIST_SESSIONS, SHOW_SESSION
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    listing = command(commands, "list", "list them", _list)
    listing.add_argument("--workspace", metavar="ID")
    listing.add_argument("--worker", metavar="NAME", help="that it has, or had last")
    listing.add_argument("--state", metavar="STATE", help="such as connected")
    listing.add_argument("--search", metavar="TEXT", help="with this in its name or phone")
    listing.add_argument("--orphaned", action="store_true", help="that nobody has, and why")
    target_options(listing)
    show = command(commands, "show", "everything about one, with its last changes", _show)
    show.add_argument("session", metavar="SESSION")
    target_options(show)
    session_pairing.add_commands(commands)
    session_closing.add_commands(commands)
    session_moves.add_commands(commands)
    session_migration.add_commands(commands)
    session_import.add_command(commands)
    session_cleaning.add_command(commands)
    session_rebalancing.add_command(commands)
    session_watching.add_commands(commands)


def _list(options: argparse.Namespace) -> None:
    found = _all(options)
    if options.json:
        print_json(found)
        return
    if not found.sessions:
        sys.stdout.write("no sessions\n")
        return
    rows = table("session", "state", "phone", "worker", "why" if options.orphaned else "lease")
    for one in found.sessions:
        lease = f"{one.lease_left:.0f}s" if one.lease_left is not None else "-"
        last = one.orphaned or "-" if options.orphaned else lease
        rows.add_row(*map(on_one_line, (one.session, _state(one), one.phone or "-", _worker(one), last)))
    out = screen()
    out.print(rows)
    unowned = sum(one.worker is None and not one.ended for one in found.sessions)
    out.print(f"{len(found.sessions)} sessions" + (f", {unowned} without a worker" if unowned else ""))


def _state(one: Session) -> str:
    return one.state if one.fault is None else f"{one.state} ({one.fault.kind})"


def _worker(one: Session) -> str:
    if one.ended:
        return f"nobody: {one.reason or one.ended}"
    if one.worker is None:
        return f"nobody, last {one.last_owner}" if one.last_owner else "nobody"
    return f"{one.worker}, which does not list it" if one.missing_since else one.worker


def _all(options: argparse.Namespace) -> SessionList:
    """Page after page."""
    found: dict[str, Session] = {}
    names = ("workspace", "worker", "state", "orphaned", "search")
    wanted = ListSessions(**{name: getattr(options, name) for name in names})
    page = SessionList((), "")
    while page.after is not None:
        page = ask(options, LIST_SESSIONS, replace(wanted, after=page.after))
        found.update((one.session, one) for one in page.sessions)
    return SessionList(tuple(found[name] for name in sorted(found)), None)


def _show(options: argparse.Namespace) -> None:
    print_json(ask(options, SHOW_SESSION, ShowSession(options.session)))
