"""`sluice queue`: what waits for the endpoints, looked at, skipped and dropped."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from sluice.cli import queue_move, target
from sluice.cli.options import command, count, moment, subcommands, target_options
from sluice.cli.screen import is_sure, print_json, print_rows
from sluice.console.actions.deployment import Deployment
from sluice.console.actions.waiting import (
    ANY_ENDPOINT,
    DroppedWaiting,
    DropWaiting,
    ListWaiting,
    ShowWaiting,
    Skipped,
    SkipWaiting,
    WaitingCriteria,
    WaitingKind,
    WaitingSummary,
)
from sluice.console.messages.wording import age
from sluice.console.operations import DROP_WAITING, LIST_WAITING, SHOW_WAITING, SKIP_WAITING, Operation

_PROGRESS_EVERY = 2.0  # seconds
_TITLES = ("id", "endpoint", "event", "session", "accepted", "state", "last attempt")
Q = TypeVar("Q", bound=SkipWaiting)
T = TypeVar("T", Skipped, DroppedWaiting)


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    listing = command(commands, "list", "list it, by endpoint and session", _list)
    listing.add_argument("--limit", type=count, default=100, metavar="N", help="at most so many (default: 100)")
    listing.add_argument("--after", metavar="NEXT", help="go on behind the page that said this")
    show = command(commands, "show", "everything about one, with its body", _show)
    show.add_argument("id", metavar="ID")
    show.add_argument("--endpoint", default=ANY_ENDPOINT, metavar="NAME", help="where it waits for several")
    target_options(show)
    skip = command(commands, "skip", "make dead letters of them, so that their sessions go on", _skip)
    drop = command(commands, "drop", "erase them for good", _drop)
    drop.add_argument("--yes", action="store_true", help="do not ask")
    for one in (skip, drop):
        one.add_argument("ids", nargs="*", metavar="ID")
        one.add_argument("--all", action="store_true", help="all that the filters leave")
        one.add_argument("--dry-run", action="store_true", help="only say how many, of which kind")
    for one in (listing, skip, drop):
        _filter_options(one)
        target_options(one)
    queue_move.add_command(commands)


def _filter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", metavar="NAME")
    parser.add_argument("--session", metavar="ID")
    parser.add_argument("--event", metavar="TYPE", help="an event type or a glob")
    when = "a moment, 2026-01-31T12:00:00Z, or so long ago, 2h"
    parser.add_argument("--since", type=moment, metavar="WHEN", help=f"that were accepted then or later: {when}")
    parser.add_argument("--until", type=moment, metavar="WHEN", help="that were accepted before it")


def _criteria(options: argparse.Namespace) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in fields(WaitingCriteria)}


def _list(options: argparse.Namespace) -> int:
    return target.run(options, lambda ask: _list_page(options, ask))


async def _list_page(options: argparse.Namespace, ask: target.Ask) -> int:
    """One page; where the filters leave little, as many calls as it takes to fill it."""
    request = ListWaiting(limit=options.limit, after=options.after, **_criteria(options))
    found = await ask(LIST_WAITING, request)
    events = found.events
    while found.next and len(events) < options.limit:
        found = await ask(LIST_WAITING, replace(request, limit=options.limit - len(events), after=found.next))
        events += found.events
    if options.json:
        print_json(replace(found, events=events))
    elif not events:
        sys.stdout.write("nothing waits\n")
    else:
        print_rows(_TITLES, [_row(one) for one in events])
        if found.next:
            sys.stdout.write(f"there are more: the next page is --after {found.next}\n")
    return 0


def _row(one: WaitingSummary) -> Sequence[str]:
    state = "being delivered" if one.state == "leased" else f"due in {age(one.due_in_s)}" if one.due_in_s else "due"
    attempt = f"{one.failed} failed{f': {one.reason}' if one.reason else ''}" if one.failed else one.reason or "-"
    accepted = f"{one.accepted_at:%Y-%m-%dT%H:%M:%SZ}"
    return one.id, one.endpoint, one.event, one.session or "-", accepted, state, attempt


def _show(options: argparse.Namespace) -> None:
    print_json(target.ask(options, SHOW_WAITING, ShowWaiting(options.endpoint, options.id)))


def _skip(options: argparse.Namespace) -> int:
    request = SkipWaiting(ids=tuple(options.ids), all=options.all, **_criteria(options))
    return target.run(options, lambda ask: _take_all(options, ask, SKIP_WAITING, request, "skipped"))


def _drop(options: argparse.Namespace) -> int:
    request = DropWaiting(ids=tuple(options.ids), all=options.all, confirm=True, **_criteria(options))
    return target.run(options, lambda ask: _take_all(options, ask, DROP_WAITING, request, "dropped"))


async def _take_all(
    options: argparse.Namespace,
    ask: target.Ask,
    operation: Operation[Deployment, Q, T],
    request: Q,
    done: str,
) -> int:
    """Looks first, asks where something is erased, then does it in as many calls as it takes. The exit code."""
    plan = await _every(ask, operation, replace(request, dry_run=True), done, 0)
    asking = done == "dropped" and not options.yes
    if not options.json and (options.dry_run or asking):
        _print_kinds(plan, done)
    if options.dry_run:
        if options.json:
            print_json(plan)
        return 0
    if asking and (options.json or not is_sure("erase them for good?")):
        sys.stderr.write(f"sluice: nothing was {done}; say yes, or give --yes\n")
        return 1
    outcome = await _every(ask, operation, replace(request, until=plan.until), done, plan.meant)
    if options.json:
        print_json(outcome)
    else:
        sys.stdout.write(f"{done}: {outcome.done:,}\n")
        if outcome.leased:
            sys.stdout.write(f"left: {outcome.leased:,}; they are being delivered right now, {_CURE}\n")
    return 1 if outcome.leased else 0


_CURE = "so run it again in a moment, or hold the circuit open before: sluice circuit hold ENDPOINT open"


async def _every(
    ask: target.Ask,
    operation: Operation[Deployment, Q, T],
    request: Q,
    done: str,
    total: int,
) -> T:
    """All pages as one. `total`: for progress."""
    some = await ask(operation, request)
    meant, leased, count, kinds = some.meant, some.leased, some.done, Counter(_counts(some.kinds))
    tell_next = time.monotonic() + _PROGRESS_EVERY
    while some.next:
        following = replace(request, after=some.next, until=some.until)
        some = await ask(operation, following)
        meant, leased, count = meant + some.meant, leased + some.leased, count + some.done
        kinds.update(_counts(some.kinds))
        if total and time.monotonic() >= tell_next:
            tell_next = time.monotonic() + _PROGRESS_EVERY
            sys.stderr.write(f"{done}: {count:,} of {total:,}\n")
    every = tuple(WaitingKind(number, *kind) for kind, number in kinds.most_common(20))
    sums: dict[str, Any] = {"meant": meant, "leased": leased, "kinds": every, done: count}
    return replace(some, **sums)


def _counts(kinds: Sequence[WaitingKind]) -> dict[tuple[str, str], int]:
    return {(kind.endpoint, kind.event): kind.count for kind in kinds}


def _print_kinds(plan: Skipped | DroppedWaiting, done: str) -> None:
    """Whether these are the ones that are meant."""
    for kind in plan.kinds:
        sys.stdout.write(f"{kind.count:>8,}  {kind.endpoint}  {kind.event}\n")
    leased = f", of which {plan.leased:,} are being delivered right now" if plan.leased else ""
    sys.stdout.write(f"would be {done}: {plan.meant}{leased}\n")
