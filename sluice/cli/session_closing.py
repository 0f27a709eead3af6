"""`sluice sessions logout` and `delete`: a session is closed where it runs."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.options import command, target_options
from sluice.cli.screen import is_sure, print_json
from sluice.console.actions.session_closing import DeletedSession, DeleteSession, LoggedOutSession, LogOutSession
from sluice.console.operations import DELETE_SESSION, LOG_OUT_SESSION
from sluice.observe.printable import on_one_line

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_commands(commands: Commands) -> None:
    logout = command(commands, "logout", "have its phone unlink one, so that it needs a new QR code", _logout)
    delete = command(commands, "delete", "close one where it runs, as Laravel does, and forget it", _delete)
    for one in (logout, delete):
        one.add_argument("session", metavar="SESSION")
        one.add_argument("--yes", action="store_true", help="do not ask")
        one.add_argument("--dry-run", action="store_true", help="only say what would happen")
        target_options(one)


def _logout(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _log_out_one(options, ask))


async def _log_out_one(options: argparse.Namespace, ask: target.Ask) -> int:
    plan = await ask(LOG_OUT_SESSION, LogOutSession(options.session, dry_run=True))
    if not _goes_on(options, plan, f"{plan.worker} would log {options.session} out; it needs a new QR code then"):
        return 0
    if not _is_sure(options, "log it out?", "logged out"):
        return 1
    done = await ask(LOG_OUT_SESSION, LogOutSession(options.session, confirm=True))
    _show(options, done, f"{done.worker} has logged {options.session} out")
    return 0


def _delete(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _delete_one(options, ask))


async def _delete_one(options: argparse.Namespace, ask: target.Ask) -> int:
    plan = await ask(DELETE_SESSION, DeleteSession(options.session, dry_run=True))
    who = f"{plan.worker} closes it first" if plan.worker else "nobody runs it"
    stays = "; its login stays on the disk of its worker" if plan.login_stays else ""
    if not _goes_on(options, plan, f"{options.session} would be deleted, with its history; {who}{stays}"):
        return 0
    if not _is_sure(options, "delete it for good?", "deleted"):
        return 1
    done = await ask(DELETE_SESSION, DeleteSession(options.session, confirm=True))
    _show(options, done, f"deleted: {options.session}")
    return 0


def _goes_on(options: argparse.Namespace, plan: object, line: str) -> bool:
    """Shows what would be; False: that was all."""
    if options.dry_run and options.json:
        print_json(plan)
    elif not options.json and (options.dry_run or not options.yes):
        sys.stdout.write(on_one_line(line) + "\n")
    return not options.dry_run


def _is_sure(options: argparse.Namespace, question: str, participle: str) -> bool:
    if options.yes or (not options.json and is_sure(question)):
        return True
    sys.stderr.write(f"sluice: nothing was {participle}; say yes, or give --yes\n")
    return False


def _show(options: argparse.Namespace, done: LoggedOutSession | DeletedSession, line: str) -> None:
    if options.json:
        print_json(done)
    else:
        sys.stdout.write(on_one_line(line) + "\n")
