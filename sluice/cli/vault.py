"""`sluice vault`: logins that are kept, listed, shown, deleted and taken back."""

from __future__ import annotations

import argparse
import sys

from sluice.cli import target, vault_upkeep, vault_verify
from sluice.cli.options import command, count, subcommands, target_options
from sluice.cli.screen import is_sure, print_json, screen, table
from sluice.console.actions.vault import (
    MAX_LISTED,
    DeletedProfile,
    DeleteProfile,
    KeptGeneration,
    KeptProfile,
    KeptProfiles,
    ListProfiles,
    ProfileDetails,
    ShowProfile,
    UndeletedProfile,
    UndeleteProfile,
)
from sluice.console.messages.wording import size, some
from sluice.console.operations import DELETE_PROFILE, LIST_PROFILES, SHOW_PROFILE, UNDELETE_PROFILE
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    listing = command(commands, "list", "list the sessions of which logins are kept", _list)
    listing.add_argument("--limit", type=count, default=100, metavar="N", help="at most so many (default: 100)")
    listing.add_argument("--after", metavar="SESSION", help="go on behind this one")
    target_options(listing)
    show = command(commands, "show", "the generations of one, and whether each can be read", _show)
    delete = command(commands, "delete", "let one start without its login; nothing is erased yet", _delete)
    delete.add_argument("--yes", action="store_true", help="do not ask")
    undelete = command(commands, "undelete", "take that back, or a logout", _undelete)
    for one in (delete, undelete):
        one.add_argument("--dry-run", action="store_true", help="only say what would happen")
    for one in (show, delete, undelete):
        one.add_argument("session", metavar="SESSION")
        target_options(one)
    vault_verify.add_command(commands)
    vault_upkeep.add_commands(commands)


# --- list


def _list(options: argparse.Namespace) -> None:
    found = target.run(options, lambda ask: _pages(ask, options.after, options.limit))
    if options.json:
        print_json(found)
    elif not found.profiles:
        sys.stdout.write("nothing is kept\n" if options.after is None else "nothing more is kept\n")
    else:
        _print_profiles(found)


async def _pages(ask: target.Ask, after: str | None, limit: int) -> KeptProfiles:
    """As one."""
    found = await ask(LIST_PROFILES, ListProfiles(min(limit, MAX_LISTED), after))
    profiles = found.profiles
    while found.next is not None and len(profiles) < limit:
        found = await ask(LIST_PROFILES, ListProfiles(min(limit - len(profiles), MAX_LISTED), found.next))
        profiles += found.profiles
    return KeptProfiles(profiles, found.key, found.next)


def _print_profiles(found: KeptProfiles) -> None:
    rows = table("session", "newest", "saved", "size", "stored", "browser", "key", "state")
    for one in found.profiles:
        rows.add_row(*map(on_one_line, _cells(one, found.key)))
    out = screen()
    out.print(rows)
    if found.next is not None:
        out.print(f"there are more: the next page is --after {found.next}")
    old = sum(_is_old(one, found.key) for one in found.profiles)
    parts = [some(len(found.profiles), "session", "sessions"), size(sum(one.stored for one in found.profiles))]
    parts += [f"{old} sealed with an older key: `sluice vault rekey`"] if old else []
    out.print(", ".join(parts))


def _cells(one: KeptProfile, key: str | None) -> tuple[str, ...]:
    if one.newest is None or one.made is None or one.size is None:
        return one.session, "-", "-", "-", "-", "-", "-", "deleted" if one.deleted else "nothing saved"
    state = "old key" if _is_old(one, key) else "late" if one.late else "-"
    if one.deleted:
        state = f"deleted {one.deleted:%Y-%m-%dT%H:%M:%SZ}"
    newest = f"{one.newest} of {one.generations}"
    browser = " ".join(filter(None, (one.browser, one.backend))) or "-"
    saved = f"{one.made:%Y-%m-%dT%H:%M:%SZ}"
    return one.session, newest, saved, size(one.size), size(one.stored), browser, one.key or "-", state


def _is_old(one: KeptProfile, key: str | None) -> bool:
    return key is not None and one.key is not None and one.key != key


# --- show


def _show(options: argparse.Namespace) -> None:
    found = target.ask(options, SHOW_PROFILE, ShowProfile(options.session))
    if options.json:
        print_json(found)
        return
    deleted = f", deleted {found.deleted:%Y-%m-%dT%H:%M:%SZ}" if found.deleted else ""
    late = ", late: its session is connected, and nobody saves it" if found.late else ""
    sys.stdout.write(on_one_line(f"{found.session}: fence {found.fence}{deleted}{late}") + "\n")
    if found.generations:
        _print_generations(found)
    else:
        sys.stdout.write("no generation is kept\n")


def _print_generations(found: ProfileDetails) -> None:
    rows = table("generation", "saved", "size", "stored", "browser", "backend", "key", "fence", "readable")
    for one in found.generations:
        rows.add_row(*map(on_one_line, _generation(one)))
    screen().print(rows)


def _generation(one: KeptGeneration) -> tuple[str, ...]:
    saved = f"{one.made:%Y-%m-%dT%H:%M:%SZ}"
    readable = "yes" if one.readable else f"no: {one.problem}"
    sizes = size(one.size), size(one.stored)
    return str(one.number), saved, *sizes, one.browser or "-", one.backend or "-", one.key, str(one.fence), readable


# --- delete and undelete


def _delete(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _delete_one(options, ask))


async def _delete_one(options: argparse.Namespace, ask: target.Ask) -> int:
    plan = await ask(DELETE_PROFILE, DeleteProfile(options.session, dry_run=True))
    if options.dry_run and options.json:
        print_json(plan)
        return 0
    if not options.json and (options.dry_run or not options.yes):
        sys.stdout.write(_would_be_deleted(options.session, plan))
    if options.dry_run:
        return 0
    if not options.yes and (options.json or not is_sure("delete it?")):
        sys.stderr.write("sluice: nothing was deleted; say yes, or give --yes\n")
        return 1
    done = await ask(DELETE_PROFILE, DeleteProfile(options.session, confirm=True))
    if options.json:
        print_json(done)
    else:
        sys.stdout.write(on_one_line(f"deleted: {options.session}") + "\n")
    return 0


def _would_be_deleted(session: str, plan: DeletedProfile) -> str:
    kept = f"{some(plan.generations, 'generation', 'generations')} (the newest of {size(plan.size)})"
    stays = f"its {kept} stay until `sluice vault prune`" if plan.generations else "nothing was saved of it yet"
    lines = (
        f"{session} would start without its login, and whoever runs it now saves it no more; {stays}",
        "`sluice vault undelete` takes it back until then",
    )
    return "".join(on_one_line(line) + "\n" for line in lines)


def _undelete(options: argparse.Namespace) -> None:
    done = target.ask(options, UNDELETE_PROFILE, UndeleteProfile(options.session, options.dry_run))
    if options.json:
        print_json(done)
    else:
        sys.stdout.write(_undeleted(options, done))


def _undeleted(options: argparse.Namespace, done: UndeletedProfile) -> str:
    goes_on = "would start" if options.dry_run else "starts"
    saved = f"{done.made:%Y-%m-%dT%H:%M:%SZ}"
    line = f"{options.session} {goes_on} from generation {done.generation} again, saved {saved}"
    return on_one_line(line) + "\n"
