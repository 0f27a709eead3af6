"""`sluice sessions clean`: ends the sessions that are stale, or duplicates of a phone, now."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.options import command, count, target_options
from sluice.cli.planned import plan_then_act
from sluice.cli.screen import screen, table
from sluice.console.actions.duplicate_cleaning import CleanDuplicates, CleanedDuplicates
from sluice.console.actions.session_cleaning import CleanedSessions, CleanSessions
from sluice.console.operations import CLEAN_DUPLICATES, CLEAN_SESSIONS

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_command(commands: Commands) -> None:
    parser = command(
        commands, "clean", "end those that are stale: too long at a QR code, or without a connection", _clean
    )
    duplicates = "instead those whose phone another session of the workspace is connected with"
    parser.add_argument("--duplicates", action="store_true", help=duplicates)
    parser.add_argument("--limit", type=count, default=100, metavar="N", help="the most that are ended; default: 100")
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    target_options(parser)


def _clean(options: argparse.Namespace) -> int:
    clean = _clean_duplicates if options.duplicates else _clean_them
    return target.run(options, lambda ask: clean(options, ask))


async def _clean_duplicates(options: argparse.Namespace, ask: target.Ask) -> int:
    def perform(dry_run: bool) -> Awaitable[CleanedDuplicates]:
        return ask(CLEAN_DUPLICATES, CleanDuplicates(options.limit, dry_run=dry_run, confirm=not dry_run))

    done = await plan_then_act(options, perform, _print_duplicates, verb="end", participle="ended")
    return 1 if done is not None and "not_closed" in done.outcomes else 0


def _print_duplicates(plan: CleanedDuplicates) -> None:
    if not plan.sessions:
        sys.stdout.write("no session has the phone of another one that is connected\n")
        return
    rows = table("session", "workspace", "phone", "worker", "stays", "why")
    for one in plan.sessions:
        rows.add_row(one.session, one.workspace or "-", one.phone or "-", one.worker or "-", one.stays, one.why)
    out = screen()
    out.print(rows)
    out.print(f"{len(plan.sessions)} sessions are duplicates" + (", and maybe more (--limit)" if plan.more else ""))


async def _clean_them(options: argparse.Namespace, ask: target.Ask) -> int:
    def perform(dry_run: bool) -> Awaitable[CleanedSessions]:
        return ask(CLEAN_SESSIONS, CleanSessions(options.limit, dry_run=dry_run, confirm=not dry_run))

    done = await plan_then_act(options, perform, _print, verb="end", participle="ended")
    return 1 if done is not None and "not_closed" in done.outcomes else 0


def _print(plan: CleanedSessions) -> None:
    if not plan.sessions:
        sys.stdout.write(f"no session is stale\n{_by_itself(plan)}")
        return
    rows = table("session", "workspace", "phone", "worker", "stale")
    for one in plan.sessions:
        rows.add_row(one.session, one.workspace or "-", one.phone or "-", one.worker or "-", one.why)
    out = screen()
    out.print(rows)
    out.print(f"{len(plan.sessions)} sessions are stale" + (", and maybe more (--limit)" if plan.more else ""))
    out.print(_by_itself(plan).rstrip())


def _by_itself(plan: CleanedSessions) -> str:
    """When it is done without being asked, and what came of that."""
    seen = plan.cleanup
    if seen is None:
        return "nothing is ended by itself: write sessions.cleanup for that\n"
    due = "now" if seen.running or seen.due is None else f"{seen.due:%Y-%m-%d %H:%M} UTC"
    lines = [f"by itself the next time: {due}" + (", as a dry run" if seen.dry_run else "")]
    last = seen.last
    if last is not None:
        did = f"would have ended {last.would_end}" if last.dry_run else f"ended {last.ended}, purged {last.purged}"
        more = ", and left others for the next run" if last.more else ""
        lines.append(f"the last time: {last.at:%Y-%m-%d %H:%M} UTC, by {last.by}: {did}{more}")
        lines += [f"not closed by {one.worker}: {one.session}" for one in last.not_closed]
        if last.not_purged:
            lines.append(f"not purged: {last.not_purged} ({last.why_not_purged})")
    return "\n".join(lines) + "\n"
