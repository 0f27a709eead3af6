"""`sluice sessions rebalance`: sends quiet sessions from full workers to empty ones, now."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.options import command, count, target_options
from sluice.cli.planned import plan_then_act
from sluice.cli.screen import screen, table
from sluice.console.actions.session_rebalancing import RebalancedSessions, RebalanceSessions
from sluice.console.operations import REBALANCE_SESSIONS
from sluice.observe.printable import on_one_line

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_command(commands: Commands) -> None:
    parser = command(commands, "rebalance", "send quiet ones from full workers to empty ones, now", _rebalance)
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="the most that are moved; default: 20")
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    target_options(parser)


def _rebalance(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _rebalance_them(options, ask))


async def _rebalance_them(options: argparse.Namespace, ask: target.Ask) -> int:
    def perform(dry_run: bool) -> Awaitable[RebalancedSessions]:
        return ask(REBALANCE_SESSIONS, RebalanceSessions(options.limit, dry_run=dry_run, confirm=not dry_run))

    await plan_then_act(options, perform, _print, verb="move", participle="moved")
    return 0


def _print(plan: RebalancedSessions) -> None:
    if not plan.sessions:
        sys.stdout.write("no session is to be moved: the workers are balanced, or all sessions are busy\n")
        return
    rows = table("session", "from", "to")
    for one in plan.sessions:
        rows.add_row(*map(on_one_line, (one.session, one.left, one.to)))
    out = screen()
    out.print(rows)
    out.print(f"{len(plan.sessions)} sessions would move; each is closed where it is, and opened where it goes")
