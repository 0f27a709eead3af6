"""`sluice vault verify`: whether all that is kept can be restored."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sluice.cli import target
from sluice.cli.errors import CommandError
from sluice.cli.options import command
from sluice.cli.screen import print_json
from sluice.cli.vault_pages import Progress, paged_options, sessions
from sluice.console.actions.vault_checks import VerifiedProfile, VerifiedProfiles, VerifyProfiles
from sluice.console.messages.wording import size, some
from sluice.console.operations import VERIFY_PROFILES
from sluice.observe.printable import on_one_line

if TYPE_CHECKING:
    from sluice.cli.options import Commands


def add_command(commands: Commands) -> None:
    verify = command(commands, "verify", "read all that is kept; exit code 1: something cannot be restored", _verify)
    verify.add_argument("sessions", nargs="*", metavar="SESSION", help="only these")
    verify.add_argument("--scratch", action="store_true", help="restore each generation into a scratch folder, too")
    paged_options(verify)


def _verify(options: argparse.Namespace) -> int:
    if options.sessions and options.after is not None:
        raise CommandError("--after goes on with all sessions: leave it out, or name none")
    return target.run(options, lambda ask: _verify_all(options, ask))


async def _verify_all(options: argparse.Namespace, ask: target.Ask) -> int:
    found = list[VerifiedProfile]()
    total = len(options.sessions) or await sessions(ask, options.after)
    with Progress("verified", total, options.after) as progress:
        async for page in _verified(options, ask):
            found += page.profiles
            progress.step(len(page.profiles), page.next)
            if not options.json:
                sys.stdout.write("".join(_broken(one) for one in page.profiles))
    if options.json:
        print_json(VerifiedProfiles(tuple(found), None))
    else:
        sys.stdout.write(_summary(found))
    return 1 if any(one.cure for one in found) else 0


async def _verified(options: argparse.Namespace, ask: target.Ask) -> AsyncIterator[VerifiedProfiles]:
    for session in options.sessions:
        yield await ask(VERIFY_PROFILES, VerifyProfiles(session, scratch=options.scratch))
    page = VerifiedProfiles((), None if options.sessions else options.after or "")
    while page.next is not None:
        page = await ask(VERIFY_PROFILES, VerifyProfiles(after=page.next, scratch=options.scratch))
        yield page


def _broken(one: VerifiedProfile) -> str:
    """What is wrong with it, and what to do; nothing where all is well."""
    if one.cure is None:
        return ""
    wrong = [it for it in one.generations if it.problem is not None]
    lines = [f"{one.session}: generation {it.number} cannot be restored: {it.problem}" for it in wrong]
    return "".join(on_one_line(line) + "\n" for line in (*lines, f"{one.session}: {one.cure}"))


def _summary(found: list[VerifiedProfile]) -> str:
    generations = [it for one in found for it in one.generations]
    read = f"{some(len(found), 'session', 'sessions')}, {some(len(generations), 'generation', 'generations')}"
    broken = sum(it.problem is not None for it in generations)
    lost = sum(bool(one.generations) and one.restores is None for one in found)
    said = f"{some(broken, 'generation', 'generations')} cannot be restored" if broken else "all can be restored"
    without = f", and of {some(lost, 'session', 'sessions')} none can" if lost else ""
    return f"verified: {read}, {size(sum(it.size for it in generations))}; {said}{without}\n"
