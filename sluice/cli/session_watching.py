"""`sluice sessions watch` and `restart`: what is wrong with sessions that somebody runs, and a restart of one."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.options import command, count, target_options
from sluice.cli.screen import print_json, screen, table
from sluice.console.actions.session_watching import RestartSession, UnhealthySession, WatchSessions
from sluice.console.operations import RESTART_SESSION, WATCH_SESSIONS
from sluice.observe.printable import on_one_line

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_commands(commands: Commands) -> None:
    watch = command(commands, "watch", "those that run and are not well, and what would be restarted", _watch)
    watch.add_argument("--limit", type=count, default=200, metavar="N", help="the most that are shown; default: 200")
    restart = command(commands, "restart", "start one anew where it runs, with its login", _restart)
    restart.add_argument("session", metavar="SESSION")
    restart.add_argument("--dry-run", action="store_true", help="only say what would happen")
    for one in (watch, restart):
        target_options(one)


def _watch(options: argparse.Namespace) -> None:
    found = target.ask(options, WATCH_SESSIONS, WatchSessions(options.limit))
    if options.json:
        print_json(found)
        return
    if not found.sessions:
        sys.stdout.write("no session that runs is unwell\n")
        return
    rows = table("session", "worker", "kind", "why", "restart")
    for one in found.sessions:
        rows.add_row(*map(on_one_line, (one.session, one.worker or "-", one.kind, one.reason, _restarts(one))))
    out = screen()
    out.print(rows)
    out.print(f"{len(found.sessions)} sessions" + (", and maybe more (--limit)" if found.more else ""))


def _restarts(one: UnhealthySession) -> str:
    return "with the next look" if one.restart else f"no: {one.why_not}"


def _restart(options: argparse.Namespace) -> None:
    done = target.ask(options, RESTART_SESSION, RestartSession(options.session, options.dry_run))
    if options.json:
        print_json(done)
        return
    if options.dry_run:
        how = "would be asked to restart" if done.existing else "would restart"
    else:
        how = "has restarted" if done.existing else "restarts, with its next beat,"
    sys.stdout.write(on_one_line(f"{done.worker} {how} {options.session}") + "\n")
