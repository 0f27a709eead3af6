"""`sluice sessions import`: what Laravel's table of accounts says, and what is to be cleaned there. Changes nothing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sessions.lifecycle.accounts import Account, Table, Unreadable, read
from sessions.lifecycle.assessment import Assessment, Removal, assess
from sessions.lifecycle.laravel_sql import clean_up
from sessions.lifecycle.stale import StaleAfter
from sluice.cli.errors import CommandError
from sluice.cli.options import command, json_option
from sluice.cli.screen import print_json, screen, table
from sluice.config.problems import quoted

if TYPE_CHECKING:
    from sluice.cli.options import Commands

_KEEP = ("newest", "oldest", "allow")


@dataclass(frozen=True, slots=True)
class Report:
    """As `--json` prints it."""

    accounts: int
    kept: Sequence[Account]
    removals: Sequence[Removal]
    blocking: Sequence[Account]
    undated: Sequence[Account]
    problems: Sequence[str]


def add_command(commands: Commands) -> None:
    parser = command(commands, "import", "read Laravel's accounts: which are duplicates, which stale", _import)
    parser.add_argument("file", type=Path, metavar="FILE", help="whatsapp_accounts as CSV or JSON; -: standard input")
    parser.add_argument("--keep", choices=_KEEP, default="newest", help="of several with one phone; default: newest")
    parser.add_argument(
        "--zone", type=_zone, default="UTC", metavar="ZONE", help="of its moments, such as Europe/Berlin; default: UTC"
    )
    parser.add_argument("--sql", action="store_true", help="print the clean-up of Laravel's table instead")
    json_option(parser)


def _zone(text: str) -> tzinfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no time zone; write UTC or Europe/Berlin") from None


def _import(options: argparse.Namespace) -> int:
    found = _read(options.file, options.zone)
    assessed = assess(found.accounts, options.keep, StaleAfter(), time.time())
    if options.sql:
        sys.stdout.writelines(f"{line}\n" for line in clean_up(assessed))
        sys.stderr.writelines(f"sluice: left out: {problem}\n" for problem in found.problems)
    elif options.json:
        report = Report(
            len(found.accounts),
            assessed.kept,
            assessed.removals,
            assessed.blocking,
            assessed.undated,
            found.problems,
        )
        print_json(report)
    else:
        _print(found, assessed)
    return 1 if found.problems else 0


def _read(file: Path, zone: tzinfo) -> Table:
    try:
        return read(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes(), zone)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    except Unreadable as error:
        raise CommandError(f"{file}: {error}") from None


def _print(found: Table, assessed: Assessment) -> None:
    out = screen()
    if assessed.removals:
        rows = table("account", "session", "workspace", "phone", "to be removed, as it is")
        for one in assessed.removals:
            account = one.account
            name = "-" if account.id is None else str(account.id)
            rows.add_row(name, account.session, account.workspace, account.phone or "-", one.detail)
        out.print(rows)
    live = len(assessed.kept) + len(assessed.removals)
    out.print(
        f"{live} accounts: {len(assessed.kept)} stay, {_count(assessed, 'duplicate')} are duplicates, "
        f"{_count(assessed, 'stale')} are stale"
    )
    if assessed.blocking:
        out.print(f"{len(assessed.blocking)} were removed before and still hold a phone, which the unique index counts")
    if assessed.undated:
        out.print(
            f"{len(assessed.undated)} have no moment, so nobody can tell whether they are stale: export updated_at"
        )
    for problem in found.problems:
        out.print(f"left out: {problem}")
    if assessed.removals or assessed.blocking:
        out.print("nothing was changed; with --sql it prints what to run on Laravel's database")


def _count(assessed: Assessment, why: str) -> int:
    return sum(one.why == why for one in assessed.removals)
