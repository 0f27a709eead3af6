"""`sluice vault prune` and `rekey`: first a look at all that is kept, then a question, then the work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

from sluice.cli import target
from sluice.cli.options import command, seconds
from sluice.cli.screen import is_sure, print_json, print_rows
from sluice.cli.vault_pages import Progress, paged_options, pages, sessions
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment
from sluice.console.actions.vault_upkeep import (
    HOUR,
    WEEK,
    PrunedProfile,
    PrunedProfiles,
    PruneProfiles,
    RekeyedProfiles,
    RekeyProfiles,
)
from sluice.console.messages.wording import size, some
from sluice.console.operations import PRUNE_PROFILES, REKEY_PROFILES, Operation
from sluice.observe.printable import on_one_line

if TYPE_CHECKING:
    from sluice.cli.options import Commands

_MAX_ROWS = 20
Q = TypeVar("Q", PruneProfiles, RekeyProfiles)
R = TypeVar("R", PrunedProfiles, RekeyedProfiles)


def add_commands(commands: Commands) -> None:
    prune = command(commands, "prune", "erase what nobody needs any more, for good", _prune)
    ago = "logins that were deleted longer ago go (default: 7d)"
    prune.add_argument("--deleted-for", type=_deleted_for, default=WEEK, metavar="TIME", help=ago)
    smaller = "also an older generation that is kept as all newer ones are so much smaller: that is right"
    prune.add_argument("--last-good", action="store_true", help=smaller)
    rekey = command(commands, "rekey", "seal with the first key what is sealed with an older one", _rekey)
    for one in (prune, rekey):
        one.add_argument("--dry-run", action="store_true", help="only say what would be done")
        one.add_argument("--yes", action="store_true", help="do not ask")
        paged_options(one)


def _deleted_for(text: str) -> int:
    found = seconds(text)
    if found < HOUR:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is too short; write 1h or more")
    return int(found)


def _prune(options: argparse.Namespace) -> int:
    request = PruneProfiles(after=options.after, deleted_for=options.deleted_for, last_good=options.last_good)
    return target.run(options, lambda ask: _prune_all(options, ask, request))


async def _prune_all(options: argparse.Namespace, ask: target.Ask, request: PruneProfiles) -> int:
    total = await sessions(ask, options.after)
    plan = await _all(ask, PRUNE_PROFILES, replace(request, dry_run=True), "looked at", total)
    is_something = any(one.ended or one.generations or one.size for one in plan.profiles)
    if not options.json:
        _print_pruned(plan)
        looked_at = some(plan.looked_at, "session", "sessions")
        said = f"would be erased: {_erased(plan)}" if is_something else f"nothing to erase, of {looked_at} looked at"
        sys.stdout.write(said + "\n")
    code = _ends(options, plan, is_something, "erase it for good?", "erased")
    if code is not None:
        return code
    done = await _all(ask, PRUNE_PROFILES, replace(request, confirm=True), "pruned", total)
    if options.json:
        print_json(done)
    else:
        sys.stdout.write(_problems(done) + f"erased: {_erased(done)}\n")
    return 1 if _problems(done) else 0


def _print_pruned(plan: PrunedProfiles) -> None:
    rows = [_row(one) for one in plan.profiles[:_MAX_ROWS]]
    if rows:
        print_rows(("session", "generations", "chunks", "size", "why"), rows)
    if len(plan.profiles) > _MAX_ROWS:
        sys.stdout.write(f"and {some(len(plan.profiles) - _MAX_ROWS, 'session', 'sessions')} more\n")


def _row(one: PrunedProfile) -> Sequence[str]:
    what = f"deleted {one.deleted:%Y-%m-%dT%H:%M:%SZ}" if one.deleted and (one.ended or one.generations) else ""
    why = one.problem or what or ("beyond those that are kept" if one.generations else "named by no generation")
    return one.session, str(one.generations), str(one.chunks), size(one.size), why


def _erased(done: PrunedProfiles) -> str:
    logins = f"{some(done.ended, 'deleted login', 'deleted logins')}, " if done.ended else ""
    generations = some(done.generations, "generation", "generations")
    return f"{logins}{generations}, {size(done.size)}, of {some(done.looked_at, 'session', 'sessions')} looked at"


# --- rekey


def _rekey(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _rekey_all(options, ask))


async def _rekey_all(options: argparse.Namespace, ask: target.Ask) -> int:
    total, request = await sessions(ask, options.after), RekeyProfiles(after=options.after)
    plan = await _all(ask, REKEY_PROFILES, replace(request, dry_run=True), "looked at", total)
    if not options.json:
        sys.stdout.write(_problems(plan))
        said = f"would be sealed anew: {_sealed(plan)}\n" if plan.generations else _nothing(options, plan)
        sys.stdout.write(said)
    code = _ends(options, plan, plan.generations > 0, "seal it anew?", "sealed anew")
    if code is not None:
        return code
    done = await _all(ask, REKEY_PROFILES, replace(request, confirm=True), "sealed anew", total)
    if options.json:
        print_json(done)
    else:
        sys.stdout.write(_problems(done) + f"sealed anew: {_sealed(done)}; {_AFTERWARDS}\n")
    return 1 if _problems(done) else 0


_AFTERWARDS = "run it once more, and when it finds nothing take the older keys out of sessions.vault.key"


def _sealed(done: RekeyedProfiles) -> str:
    generations = some(done.generations, "generation", "generations")
    of = some(sum(one.generations > 0 for one in done.profiles), "session", "sessions")
    return f"{generations} of {of}, {size(done.size)}"


def _nothing(options: argparse.Namespace, plan: RekeyedProfiles) -> str:
    looked_at = some(plan.looked_at, "session", "sessions")
    if plan.profiles or options.after is not None:
        return f"nothing can be sealed anew, of {looked_at} looked at\n"
    cure = "older ones can be taken out of sessions.vault.key"
    return f"all that is kept of {looked_at} is sealed with the first key: {cure}\n"


# --- both


async def _all(ask: target.Ask, operation: Operation[Deployment, Q, R], request: Q, done: str, total: int) -> R:
    """All pages as one."""
    found: R | None = None
    with Progress(done, total, request.after) as progress:
        async for page in pages(ask, operation, request):
            progress.step(page.looked_at, page.next)
            found = page if found is None else _joined(found, page)
    assert found is not None
    return found


def _joined(before: R, page: R) -> R:
    names = [field.name for field in fields(page) if field.name != "next"]
    return replace(page, **{name: getattr(before, name) + getattr(page, name) for name in names})


def _ends(
    options: argparse.Namespace, plan: PrunedProfiles | RekeyedProfiles, is_something: bool, question: str, done: str
) -> int | None:
    """With which exit code the look was all; None: what it has shown is to be done."""
    if options.dry_run or not is_something:
        if options.json:
            print_json(plan)
        return 1 if _problems(plan) else 0
    if options.yes or (not options.json and is_sure(question)):
        return None
    sys.stderr.write(f"sluice: nothing was {done}; say yes, or give --yes\n")
    return 1


def _problems(done: PrunedProfiles | RekeyedProfiles) -> str:
    return "".join(on_one_line(one.problem) + "\n" for one in done.profiles if one.problem)
