"""`sluice queue move`: what lies in the store for an endpoint that is gone, given to another."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.options import command, target_options
from sluice.cli.screen import print_json
from sluice.console.actions.moving import MovedQueue, MoveQueue
from sluice.console.operations import MOVE_QUEUE

if TYPE_CHECKING:
    from sluice.cli.options import Commands

_PROGRESS_EVERY = 2.0  # seconds


def add_command(commands: Commands) -> None:
    move = command(
        commands, "move", "give what lies there for an endpoint that was renamed or removed to another", _move
    )
    move.add_argument("old", metavar="OLD", help="one that the policies do not name any more")
    move.add_argument("new", metavar="NEW", help="one that they name")
    move.add_argument("--yes", action="store_true", help="do it; without it only what would happen is said")
    target_options(move)


def _move(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _move_all(options, ask))


async def _move_all(options: argparse.Namespace, ask: target.Ask) -> int:
    """In steps. Cut short, it goes on when it is run again: what was moved is moved."""
    old, new = options.old, options.new
    plan = await ask(MOVE_QUEUE, MoveQueue(old, new, dry_run=True))
    if not options.yes:
        if options.json:
            print_json(plan)
        else:
            sys.stdout.write(_planned(plan, old, new))
        return 0
    done = plan
    tell_next = time.monotonic() + _PROGRESS_EVERY
    while True:
        step = await ask(MOVE_QUEUE, MoveQueue(old, new, confirm=True))
        done = replace(step, moved=done.moved + step.moved, merged=done.merged + step.merged)
        if not step.moved or not step.left:
            break
        if time.monotonic() >= tell_next:
            tell_next = time.monotonic() + _PROGRESS_EVERY
            sys.stderr.write(f"moved: {done.moved:,} of {plan.left:,}\n")
    if options.json:
        print_json(replace(done, waiting=plan.waiting, dead=plan.dead))
    else:
        sys.stdout.write(_said(done))
    return 1 if done.left else 0


def _planned(plan: MovedQueue, old: str, new: str) -> str:
    leased = f", {plan.leased:,} are being delivered right now" if plan.leased else ""
    return (
        f"{old}: {plan.waiting:,} wait, {plan.dead:,} are dead letters{leased}\n"
        f"they would go to {new}, each before younger events of its session; do it with --yes\n"
    )


def _said(done: MovedQueue) -> str:
    merged = f", of which {done.merged:,} were there already" if done.merged else ""
    lines = [f"moved: {done.moved:,}{merged}"]
    if done.left:
        why = "they are being delivered right now" if done.leased else "they came meanwhile"
        lines.append(f"left: {done.left:,}; {why}, run it again in a moment")
    return "".join(f"{line}\n" for line in lines)
