"""`sluice dead`: dead letters, listed, shown, sent again, dropped."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from dataclasses import fields, replace
from typing import Any, TypeVar

from sluice.cli import target
from sluice.cli.options import command, count, moment, rate, subcommands, target_options
from sluice.cli.screen import is_sure, print_json, print_rows, screen
from sluice.console.actions.dead_letters import (
    ANY_ENDPOINT,
    MAX_FOUND,
    Criteria,
    DropDeadLetters,
    Dropped,
    FindDeadLetters,
    FoundDeadLetters,
    ReplayDeadLetters,
    Replayed,
    ShowDeadLetter,
    first_line,
)
from sluice.console.actions.deployment import Deployment
from sluice.console.operations import (
    DROP_DEAD_LETTERS,
    FIND_DEAD_LETTERS,
    REPLAY_DEAD_LETTERS,
    SHOW_DEAD_LETTER,
    Operation,
)
from sluice.observe.printable import on_one_line

_MANY = 100  # from so many on, a person may want to cut it short
_PROGRESS_EVERY = 2.0  # seconds
_MAX_IDS = 250  # in one step: a request of the API has 64 KiB at most

Q = TypeVar("Q", bound=ReplayDeadLetters)


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    listing = command(commands, "list", "list them", _list)
    listing.add_argument("--limit", type=count, default=100, metavar="N", help="at most so many (default: 100)")
    listing.add_argument("--after", metavar="NEXT", help="go on behind the page that said this")
    show = command(commands, "show", "everything about one, with its body", _show)
    show.add_argument("id", metavar="ID")
    show.add_argument("--endpoint", default=ANY_ENDPOINT, metavar="NAME", help="where it is dead at several")
    target_options(show)
    replay = command(commands, "replay", "send them again, in order", _replay)
    pace = "1000/minute at most; without it the endpoint's own rate is the only one"
    replay.add_argument("--rate", type=rate, metavar="RATE", help=pace)
    drop = command(commands, "drop", "erase them for good", _drop)
    drop.add_argument("--yes", action="store_true", help="do not ask")
    for one in (replay, drop):
        one.add_argument("ids", nargs="*", metavar="ID")
        one.add_argument("--all", action="store_true", help="all that the filters leave")
        one.add_argument("--dry-run", action="store_true", help="only say how many, of which kind")
    for one in (listing, replay, drop):
        _filter_options(one)
        target_options(one)


def _filter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", metavar="NAME")
    parser.add_argument("--session", metavar="ID")
    parser.add_argument("--event", metavar="TYPE", help="an event type or a glob")
    when = "a moment, 2026-01-31T12:00:00Z, or so long ago, 2h"
    parser.add_argument("--since", type=moment, metavar="WHEN", help=f"that died then or later: {when}")
    parser.add_argument("--until", type=moment, metavar="WHEN", help="that died before it")
    parser.add_argument("--reason", metavar="TEXT", help="that died of something with this in it")
    parser.add_argument("--text", metavar="TEXT", help="with this in body, path or headers")


def _list(options: argparse.Namespace) -> None:
    criteria = _criteria(options)
    found = target.run(options, lambda ask: _find(ask, FindDeadLetters(after=options.after, **criteria), options.limit))
    if options.json:
        print_json(found)
    elif not found.letters:
        sys.stdout.write("no dead letters\n")
    else:
        _print_table(found)


async def _find(ask: target.Ask, request: FindDeadLetters, limit: int) -> FoundDeadLetters:
    """One page; where the filters leave little, as many calls as it takes to fill it."""
    found = await ask(FIND_DEAD_LETTERS, replace(request, limit=min(limit, MAX_FOUND)))
    letters = found.letters
    while found.next and len(letters) < limit:
        more = replace(request, limit=min(limit - len(letters), MAX_FOUND), after=found.next)
        found = await ask(FIND_DEAD_LETTERS, more)
        letters += found.letters
    return replace(found, letters=letters)


def _criteria(options: argparse.Namespace) -> dict[str, Any]:
    names = ("endpoint", "session", "event", "since", "until", "reason", "text")
    return {name: getattr(options, name) for name in names}


def _print_table(found: FoundDeadLetters) -> None:
    rows = []
    for one in found.letters:
        cells = (one.id, one.endpoint, one.event, one.session or "-", f"{one.died_at:%Y-%m-%dT%H:%M:%SZ}")
        rows.append((*cells, first_line(one.reason)))
    print_rows(("id", "endpoint", "event", "session", "died", "reason"), rows)
    out = screen()
    if found.next:
        out.print(f"there are more: the next page is --after {found.next}")
    out.print(f"{len(found.letters)} dead letters; send them again with `sluice dead replay ID` or `--all`")


def _show(options: argparse.Namespace) -> None:
    print_json(target.ask(options, SHOW_DEAD_LETTER, ShowDeadLetter(options.endpoint, options.id)))


def _replay(options: argparse.Namespace) -> int:
    request = ReplayDeadLetters(ids=tuple(options.ids), all=options.all, **_criteria(options))
    return target.run(options, lambda ask: _Bulk(options, ask, REPLAY_DEAD_LETTERS, request, "replayed").run())


def _drop(options: argparse.Namespace) -> int:
    request = DropDeadLetters(ids=tuple(options.ids), all=options.all, confirm=True, **_criteria(options))
    return target.run(options, lambda ask: _Bulk(options, ask, DROP_DEAD_LETTERS, request, "dropped").run())


class _Bulk:
    """Does as many calls as it takes, paced, and tells of progress on standard error.

    Cut short, it goes on when it is run again with the `--until` that it tells at its beginning: what was done is no
    longer dead, and what died again meanwhile is left alone.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        ask: target.Ask,
        operation: Operation[Deployment, Q, Replayed] | Operation[Deployment, Q, Dropped],
        request: Q,
        done: str,
    ) -> None:
        self._options, self._done = options, done
        self._ask, self._operation, self._request = ask, operation, request
        self._interval = options.rate.interval if getattr(options, "rate", None) else 0.0
        self._tell_next = time.monotonic() + _PROGRESS_EVERY

    async def run(self) -> int:
        """The exit code."""
        plan = await self._call(dry_run=True)
        asking = self._done == "dropped" and not self._options.yes
        if self._options.dry_run and self._options.json:
            print_json(plan)
            return 0
        if (self._options.dry_run or asking) and not self._options.json:
            self._print_kinds(plan)
        if self._options.dry_run:
            return 0
        if asking and (self._options.json or not is_sure("erase them for good?")):
            sys.stderr.write(f"sluice: nothing was {self._done}; say yes, or give --yes\n")
            return 1
        outcome = await self._do_all(plan)
        if self._options.json:
            print_json(outcome)
        else:
            sys.stdout.write(f"{self._done}: {outcome.done}{self._superseded(plan)}\n")
        return 0

    async def _call(self, **changes: object) -> Replayed | Dropped:
        return await self._ask(self._operation, replace(self._request, **changes))  # type: ignore[arg-type]

    async def _do_all(self, plan: Replayed | Dropped) -> Replayed | Dropped:
        """The plan as it was, with what was done."""
        total = plan.left
        if total > _MANY:
            until = f"{plan.until:%Y-%m-%dT%H:%M:%S.%fZ}"
            sys.stderr.write(f"{total:,} to do; should this be cut short, run it again with --until {until}\n")
        count = 0
        for named in await self._steps(plan):
            began = time.monotonic()
            outcome = await self._call(until=plan.until, **named)
            count += outcome.done
            self._tell(count, total)
            if self._interval and count < total:
                await asyncio.sleep(max(0.0, outcome.done * self._interval - (time.monotonic() - began)))
        result: dict[str, Any] = {self._done: count, "left": 0}
        return replace(plan, **result)

    async def _steps(self, plan: Replayed | Dropped) -> list[dict[str, Any]]:
        """What each step names. The letters are looked for once, so that no step looks through them all again.

        In the order in which they were accepted, so that within a session none overtakes another.
        """
        at_once = _MAX_IDS
        if self._interval:
            at_once = max(1, min(_MAX_IDS, math.floor(1 / self._interval)))  # what the rate allows in a second
        if self._request.ids:
            return [{"limit": at_once}] * math.ceil(plan.left / at_once)
        criteria = {field.name: getattr(self._request, field.name) for field in fields(Criteria)}
        found = await _find(self._ask, FindDeadLetters(**{**criteria, "until": plan.until}), sys.maxsize)
        ids = list(dict.fromkeys(one.id for one in sorted(found.letters, key=lambda one: one.sequence)))
        return [{"ids": tuple(ids[i : i + at_once]), "all": False} for i in range(0, len(ids), at_once)]

    def _tell(self, count: int, total: int) -> None:
        if count < total and time.monotonic() >= self._tell_next:
            self._tell_next = time.monotonic() + _PROGRESS_EVERY
            sys.stderr.write(f"{self._done}: {count:,} of {total:,}\n")

    def _print_kinds(self, plan: Replayed | Dropped) -> None:
        """Whether these are the ones that are meant."""
        for kind in plan.kinds:
            line = f"{kind.count:>8,}  {kind.endpoint}  {kind.event}  {kind.reason}"
            sys.stdout.write(f"{on_one_line(line)}\n")
        if plan.other_kinds:
            sys.stdout.write(f"          and {plan.other_kinds:,} kinds more\n")
        sys.stdout.write(f"would be {self._done}: {plan.left}{self._superseded(plan)}\n")

    def _superseded(self, plan: Replayed | Dropped) -> str:
        if not plan.superseded or self._done != "replayed":
            return ""
        return f"; {plan.superseded:,} of them superseded by a newer event, and sent to nobody"
