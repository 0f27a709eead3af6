"""`sluice sessions create`, `qr` and `pair`: a session is created, and gets its phone."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.errors import CommandError
from sluice.cli.options import command, target_options
from sluice.cli.screen import print_json
from sluice.console.actions.session_creating import CreateSession
from sluice.console.actions.session_pairing import PairSession, ShowQr
from sluice.console.operations import CREATE_SESSION, PAIR_SESSION, SHOW_QR
from sluice.observe.printable import on_one_line

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_commands(commands: Commands) -> None:
    create = command(commands, "create", "create one, as Laravel does, or start one again that nobody runs", _create)
    create.add_argument("--workspace", required=True, metavar="ID", help="whose it is")
    create.add_argument("--account", default="", metavar="ID", help="of Laravel's account")
    create.add_argument("--dry-run", action="store_true", help="only say what would happen")
    qr = command(commands, "qr", "the QR code that its phone scans now, as a picture", _qr)
    qr.add_argument("--out", type=Path, metavar="FILE", help="into which the picture is written")
    pair = command(commands, "pair", "a code that is typed into the phone instead", _pair)
    pair.add_argument("--phone", required=True, metavar="NUMBER", help="with the code of its country")
    for one in (create, qr, pair):
        one.add_argument("session", metavar="SESSION")
        target_options(one)


def _create(options: argparse.Namespace) -> None:
    request = CreateSession(options.session, options.workspace, options.account, options.dry_run)
    done = target.ask(options, CREATE_SESSION, request)
    if options.json:
        print_json(done)
        return
    how = "would be created" if options.dry_run else "is created"
    if done.known:
        how = "would be started again" if options.dry_run else "is started again"
    where = f" at {done.worker}: {done.state}" if done.worker else ", at the worker with the most room"
    _say(f"{options.session} {how}{where}")


def _qr(options: argparse.Namespace) -> None:
    found = target.ask(options, SHOW_QR, ShowQr(options.session))
    if options.json:
        print_json(found)
        return
    if found.code is None:
        raise CommandError(f"there is no code of {on_one_line(options.session)}: {on_one_line(found.why or '')}")
    if options.out is None:
        raise CommandError("say with --out FILE where the picture goes, or with --json that it is to be printed")
    try:
        options.out.write_bytes(base64.b64decode(found.code.partition(",")[2]))
    except OSError as error:
        raise CommandError(f"{options.out} cannot be written: {(error.strerror or str(error)).lower()}") from None
    _say(f"{options.out}: scan it within a minute; another one follows")


def _pair(options: argparse.Namespace) -> None:
    found = target.ask(options, PAIR_SESSION, PairSession(options.session, options.phone))
    if options.json:
        print_json(found)
        return
    _say(f"{found.code}: on the phone, under Linked devices, Link with phone number")


def _say(line: str) -> None:
    sys.stdout.write(on_one_line(line) + "\n")
