"""`sluice sessions import`: what Laravel's table of accounts says, and what is to be cleaned there.

Laravel's table is never changed. With `--clean` the sessions are ended in Sluice, where the registry agrees.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
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
from sluice.cli import target
from sluice.cli.errors import CommandError
from sluice.cli.options import command, target_options
from sluice.cli.screen import is_sure, print_json, screen, table
from sluice.config.problems import quoted
from sluice.console.actions.account_cleaning import (
    AT_ONCE,
    AccountToGo,
    CleanAccounts,
    CleanedAccount,
    CleanedAccounts,
)
from sluice.console.operations import CLEAN_ACCOUNTS

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
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--sql", action="store_true", help="print the clean-up of Laravel's table instead")
    instead.add_argument(
        "--clean", action="store_true", help="end their sessions in Sluice, where that agrees; it asks first"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --clean: only say what would happen")
    parser.add_argument("--yes", action="store_true", help="with --clean: do not ask")
    target_options(parser)


def _zone(text: str) -> tzinfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no time zone; write UTC or Europe/Berlin") from None


def _import(options: argparse.Namespace) -> int:
    found = _read(options.file, options.zone)
    assessed = assess(found.accounts, options.keep, StaleAfter(), time.time())
    if options.clean:
        return _clean(options, found, assessed)
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


def _clean(options: argparse.Namespace, found: Table, assessed: Assessment) -> int:
    accounts = [AccountToGo(one.account.session, one.account.workspace, one.stays) for one in assessed.removals]
    code = target.run(options, lambda ask: _clean_them(options, ask, accounts)) if accounts else _nothing(options)
    sys.stderr.writelines(f"sluice: left out: {problem}\n" for problem in found.problems)
    return 1 if found.problems else code


def _nothing(options: argparse.Namespace) -> int:
    if options.json:
        print_json(CleanedAccounts((), {}))
    else:
        sys.stdout.write("no account is to go\n")
    return 0


async def _clean_them(options: argparse.Namespace, ask: target.Ask, accounts: Sequence[AccountToGo]) -> int:
    plan = await _ask(ask, accounts, dry_run=True)
    if options.dry_run and options.json:
        print_json(plan)
        return 0
    if not options.json:
        _print_cleaned(plan)
    if options.dry_run or "would_end" not in plan.outcomes:
        return 0
    if not options.yes and (options.json or not is_sure("end those?")):
        sys.stderr.write("sluice: nothing was ended; say yes, or give --yes\n")
        return 1
    agreed = {one.session for one in plan.accounts if one.outcome == "would_end"}
    done = await _ask(ask, [one for one in accounts if one.session in agreed], dry_run=False)
    if options.json:
        print_json(done)
    else:
        _print_cleaned(done)
        sys.stdout.write("Laravel is told of each; what else is to be cleaned in its table prints --sql\n")
    return 1 if "not_closed" in done.outcomes else 0


async def _ask(ask: target.Ask, accounts: Sequence[AccountToGo], *, dry_run: bool) -> CleanedAccounts:
    """Some at a time."""
    done = list[CleanedAccount]()
    for at in range(0, len(accounts), AT_ONCE):
        some = tuple(accounts[at : at + AT_ONCE])
        done += (await ask(CLEAN_ACCOUNTS, CleanAccounts(some, dry_run, confirm=not dry_run))).accounts
    return CleanedAccounts(tuple(done), dict(sorted(Counter(one.outcome for one in done).items())))


def _print_cleaned(cleaned: CleanedAccounts) -> None:
    rows = table("session", "in Sluice", "as it is")
    for one in cleaned.accounts:
        rows.add_row(one.session, one.outcome.replace("_", " "), one.detail)
    out = screen()
    out.print(rows)
    out.print(", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in cleaned.outcomes.items()))


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
        out.print("nothing was changed; --clean ends them in Sluice, --sql prints what to run on Laravel's database")


def _count(assessed: Assessment, why: str) -> int:
    return sum(one.why == why for one in assessed.removals)
