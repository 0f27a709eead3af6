"""`sluice sessions forget`, `move`, `release` and `restore`: what a person decides of one session."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.options import command, target_options
from sluice.cli.screen import is_sure, print_json
from sluice.console.actions.session_moves import (
    ForgetSession,
    ForgottenSession,
    MovedSession,
    MoveSession,
    ReleaseSession,
    RestoreSession,
)
from sluice.console.operations import FORGET_SESSION, MOVE_SESSION, RELEASE_SESSION, RESTORE_SESSION
from sluice.observe.printable import on_one_line

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_commands(commands: Commands) -> None:
    forget = command(commands, "forget", "erase one for good, with its history", _forget)
    forget.add_argument("--yes", action="store_true", help="do not ask")
    move = command(commands, "move", "send one to another worker", _move)
    move.add_argument("--to", required=True, metavar="WORKER", help="its name, as in sluice status")
    release = command(commands, "release", "let any worker of yours have one", _release)
    restore = command(commands, "restore", "let workers run one again that was ended", _restore)
    for one in (forget, move, release, restore):
        one.add_argument("session", metavar="SESSION")
        one.add_argument("--dry-run", action="store_true", help="only say what would happen")
        target_options(one)
    for one in (move, release):
        one.add_argument("--force", action="store_true", help="also where its login stays behind")


def _forget(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _forget_one(options, ask))


async def _forget_one(options: argparse.Namespace, ask: target.Ask) -> int:
    plan = await ask(FORGET_SESSION, ForgetSession(options.session, dry_run=True))
    if options.dry_run and options.json:
        print_json(plan)
        return 0
    if not options.json and (options.dry_run or not options.yes):
        sys.stdout.write(_forgotten(options.session, plan))
    if options.dry_run:
        return 0
    if not options.yes and (options.json or not is_sure("forget it for good?")):
        sys.stderr.write("sluice: nothing was forgotten; say yes, or give --yes\n")
        return 1
    done = await ask(FORGET_SESSION, ForgetSession(options.session, confirm=True))
    if options.json:
        print_json(done)
    else:
        sys.stdout.write(f"forgotten: {on_one_line(options.session)}\n")
    return 0


def _forgotten(session: str, plan: ForgottenSession) -> str:
    who = "nobody has it"
    if plan.worker is not None:
        who = f"{plan.worker} {'stops it first' if plan.stops_first else 'had it last'}"
    return on_one_line(f"{session} would be forgotten, with its history; {who}") + "\n"


def _move(options: argparse.Namespace) -> None:
    request = MoveSession(options.session, options.to, options.force, options.dry_run)
    _tell(options, target.ask(options, MOVE_SESSION, request), options.to)


def _release(options: argparse.Namespace) -> None:
    request = ReleaseSession(options.session, options.force, options.dry_run)
    _tell(options, target.ask(options, RELEASE_SESSION, request), "the first worker of yours with room")


def _restore(options: argparse.Namespace) -> None:
    done = target.ask(options, RESTORE_SESSION, RestoreSession(options.session, options.dry_run))
    if options.json:
        print_json(done)
        return
    lines = [f"{options.session} {'would be' if options.dry_run else 'is'} restored; it was ended: {done.ended}"]
    if done.starts_by_create:
        lines.append("its worker is told nothing: create the session again, and it is started there")
    sys.stdout.write("".join(f"{on_one_line(line)}\n" for line in lines))


def _tell(options: argparse.Namespace, done: MovedSession, to: str) -> None:
    if options.json:
        print_json(done)
        return
    session = options.session
    if not done.moved and not options.dry_run:
        lines = [f"{session} is at {done.worker} already"]
    else:
        left = f" from {done.left}" if done.left else ""
        lines = [f"{session} {'would go' if options.dry_run else 'goes'}{left} to {to}"]
        lines += _what_that_means(done)
    sys.stdout.write("".join(f"{on_one_line(line)}\n" for line in lines))


def _what_that_means(done: MovedSession) -> list[str]:
    lines = []
    if done.stops_first:
        lines.append(f"{done.left} stops it first, with its next beat")
    if done.login_stays:
        lines.append(f"its login stays on the disk of {done.left}: it needs a new QR code")
    if done.starts_by_create:
        lines.append("that worker is told nothing: create the session again, and it is started there")
    return lines
