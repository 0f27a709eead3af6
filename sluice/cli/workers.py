"""`sluice workers`: one of ours is emptied, and taken back."""

from __future__ import annotations

import argparse
import sys

from sluice.cli import target
from sluice.cli.options import command, subcommands, target_options
from sluice.cli.screen import print_json
from sluice.console.actions.worker_draining import DrainedWorker, DrainWorker
from sluice.console.messages.wording import some
from sluice.console.operations import DRAIN_WORKER
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    drain = command(commands, "drain", "let one give its sessions to others, and get no more", _drain)
    back = command(commands, "take-back", "let one that drains get sessions again", _take_back)
    for one in (drain, back):
        one.add_argument("worker", metavar="WORKER", help="its name, as in sluice status")
        one.add_argument("--dry-run", action="store_true", help="only say what would happen")
        target_options(one)


def _drain(options: argparse.Namespace) -> None:
    done = target.ask(options, DRAIN_WORKER, DrainWorker(options.worker, True, options.dry_run))
    if options.json:
        print_json(done)
        return
    lines = [f"{done.worker} {'would give' if options.dry_run else 'gives'} {_sessions(done)} to others, two at a time"]
    if done.room < done.sessions:
        lines.append(f"the others have room for {done.room} of them: start one more worker, or the rest stays")
    _say(lines)


def _take_back(options: argparse.Namespace) -> None:
    done = target.ask(options, DRAIN_WORKER, DrainWorker(options.worker, False, options.dry_run))
    if options.json:
        print_json(done)
        return
    _say([f"{done.worker} {'would get' if options.dry_run else 'gets'} sessions again; it has {_sessions(done)}"])


def _sessions(done: DrainedWorker) -> str:
    return some(done.sessions, "session", "sessions")


def _say(lines: list[str]) -> None:
    sys.stdout.write("".join(f"{on_one_line(line)}\n" for line in lines))
