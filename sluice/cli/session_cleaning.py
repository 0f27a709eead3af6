"""`sluice sessions clean`: ends the sessions that are stale, now."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.options import command, count, target_options
from sluice.cli.screen import is_sure, print_json, screen, table
from sluice.console.actions.session_cleaning import CleanedSessions, CleanSessions
from sluice.console.operations import CLEAN_SESSIONS

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_command(commands: Commands) -> None:
    parser = command(
        commands, "clean", "end those that are stale: too long at a QR code, or without a connection", _clean
    )
    parser.add_argument("--limit", type=count, default=100, metavar="N", help="the most that are ended; default: 100")
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    target_options(parser)


def _clean(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _clean_them(options, ask))


async def _clean_them(options: argparse.Namespace, ask: target.Ask) -> int:
    plan = await ask(CLEAN_SESSIONS, CleanSessions(options.limit, dry_run=True))
    if options.dry_run and options.json:
        print_json(plan)
        return 0
    if not options.json:
        _print(plan)
    if options.dry_run or not plan.sessions:
        return 0
    if not options.yes and (options.json or not is_sure("end them?")):
        sys.stderr.write("sluice: nothing was ended; say yes, or give --yes\n")
        return 1
    done = await ask(CLEAN_SESSIONS, CleanSessions(options.limit, confirm=True))
    if options.json:
        print_json(done)
    else:
        counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(done.outcomes.items()))
        sys.stdout.write(f"{counts or 'none was left'}\n")
    return 1 if "not_closed" in done.outcomes else 0


def _print(plan: CleanedSessions) -> None:
    if not plan.sessions:
        sys.stdout.write("no session is stale\n")
        return
    rows = table("session", "workspace", "phone", "worker", "stale")
    for one in plan.sessions:
        rows.add_row(one.session, one.workspace or "-", one.phone or "-", one.worker or "-", one.why)
    out = screen()
    out.print(rows)
    out.print(f"{len(plan.sessions)} sessions are stale" + (", and maybe more (--limit)" if plan.more else ""))
