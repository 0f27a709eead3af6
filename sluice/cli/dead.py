"""`sluice dead`: dead letters, listed, shown, sent again, dropped."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from dataclasses import replace
from typing import Any, TypeVar

from sluice.cli import target
from sluice.cli.options import command, count, moment, rate, subcommands, target_options
from sluice.cli.screen import print_json, print_rows, screen
from sluice.console.actions.dead_letters import (
    ANY_ENDPOINT,
    MAX_AT_ONCE,
    DeadLetterSummary,
    DropDeadLetters,
    Dropped,
    FindDeadLetters,
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
_LOOKING_SHARE = 10  # a paced step takes at least so many times as long as looking for its letters

Q = TypeVar("Q", bound=ReplayDeadLetters)


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    listing = command(commands, "list", "list them", _list)
    listing.add_argument("--limit", type=count, default=100, metavar="N", help="at most so many (default: 100)")
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
    found = target.ask(options, FIND_DEAD_LETTERS, FindDeadLetters(limit=options.limit, **_criteria(options)))
    if options.json:
        print_json(found)
    elif not found.letters:
        sys.stdout.write("no dead letters\n")
    else:
        _print_table(found.letters, more=found.more)


def _criteria(options: argparse.Namespace) -> dict[str, Any]:
    names = ("endpoint", "session", "event", "since", "until", "reason", "text")
    return {name: getattr(options, name) for name in names}


def _print_table(letters: tuple[DeadLetterSummary, ...], *, more: bool) -> None:
    rows = []
    for one in letters:
        cells = (one.id, one.endpoint, one.event, one.session or "-", f"{one.died_at:%Y-%m-%dT%H:%M:%SZ}")
        rows.append((*cells, first_line(one.reason)))
    print_rows(("id", "endpoint", "event", "session", "died", "reason"), rows)
    out = screen()
    if more:
        out.print("there are more: raise --limit, or say which with --endpoint, --session, --event, --since, …")
    out.print(f"{len(letters)} dead letters; send them again with `sluice dead replay ID` or `--all`")


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
        if asking and (self._options.json or not _is_sure()):
            sys.stderr.write(f"sluice: nothing was {self._done}; say yes, or give --yes\n")
            return 1
        outcome = await self._do_all(plan)
        if self._options.json:
            print_json(outcome)
        else:
            sys.stdout.write(f"{self._done}: {outcome.done}\n")
        return 0

    async def _call(self, **changes: object) -> Replayed | Dropped:
        return await self._ask(self._operation, replace(self._request, **changes))  # type: ignore[arg-type]

    async def _do_all(self, plan: Replayed | Dropped) -> Replayed | Dropped:
        """The plan as it was, with what was done."""
        total = plan.left
        if total > _MANY:
            until = f"{plan.until:%Y-%m-%dT%H:%M:%S.%fZ}"
            sys.stderr.write(f"{total:,} to do; should this be cut short, run it again with --until {until}\n")
        count, step, left = 0, self._step(0.0), total
        while left:
            began = time.monotonic()
            outcome = await self._call(until=plan.until, limit=step)
            handled, left = left - outcome.left, outcome.left
            count += outcome.done
            self._tell(count, total)
            if self._interval and left:
                took = time.monotonic() - began
                await asyncio.sleep(max(0.0, handled * self._interval - took))
                step = self._step(took)
        result: dict[str, Any] = {self._done: count, "left": left}
        return replace(plan, **result)

    def _step(self, took: float) -> int:
        """How many at once: of a rate what it allows in a second, or in more where looking for them took long."""
        if not self._interval:
            return MAX_AT_ONCE
        return max(1, min(MAX_AT_ONCE, math.floor(max(1.0, took * _LOOKING_SHARE) / self._interval)))

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
        sys.stdout.write(f"would be {self._done}: {plan.left}\n")


def _is_sure() -> bool:
    sys.stdout.flush()
    return sys.stdin.isatty() and input("erase them for good? [y/N] ").strip().lower() in ("y", "yes")
