"""`sluice event resend`: events that were delivered, sent once more while their bodies are kept."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections import Counter
from dataclasses import replace

from sluice.cli import target
from sluice.cli.screen import print_json
from sluice.console.actions.resending import MAX_AT_ONCE, ResendEvents, Resent, ResentKind
from sluice.console.operations import RESEND_EVENTS
from sluice.observe.printable import on_one_line

_PROGRESS_EVERY = 2.0  # seconds
_MAX_KINDS = 20


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    request = ResendEvents(
        ids=tuple(options.ids),
        all=options.all,
        endpoint=options.endpoint,
        session=options.session,
        event=options.type,
        since=options.since,
        until=options.until,
    )
    return target.run(options, lambda ask: _resend(options, ask, request))


async def _resend(options: argparse.Namespace, ask: target.Ask, request: ResendEvents) -> int:
    plan = await _every(ask, replace(request, dry_run=True))
    if not options.yes:
        if options.json:
            print_json(plan)
        else:
            _print_plan(plan)
        return 0
    until = f"{plan.until:%Y-%m-%dT%H:%M:%S.%fZ}"
    again = f"run it again with --until {until}, and none is sent twice"
    if plan.meant > 1:
        sys.stderr.write(f"{plan.meant:,} to send; should this be cut short, {again}\n")
    interval = options.rate.interval if options.rate else 0.0
    outcome = await _every(ask, replace(request, until=plan.until), interval, plan.meant)
    if options.json:
        print_json(outcome)
    else:
        sys.stdout.write(_said(outcome, plan.meant, again))
    return 1 if outcome.full else 0


async def _every(ask: target.Ask, request: ResendEvents, interval: float = 0.0, total: int = 0) -> Resent:
    """All pages as one. `interval`: seconds for each event. `total`: for progress."""
    at_once = max(1, min(MAX_AT_ONCE, math.floor(1 / interval))) if interval else MAX_AT_ONCE
    tell_next = time.monotonic() + _PROGRESS_EVERY
    began = time.monotonic()
    some = await ask(RESEND_EVENTS, replace(request, limit=at_once))
    meant, already, resent, ids, kinds = some.meant, some.already, some.resent, some.ids, Counter(_counts(some))
    superseded = some.superseded
    while some.next and not some.full:
        await asyncio.sleep(max(0.0, some.resent * interval - (time.monotonic() - began)))
        began = time.monotonic()
        some = await ask(RESEND_EVENTS, replace(request, limit=at_once, after=some.next, until=some.until))
        meant, already, resent, ids = meant + some.meant, already + some.already, resent + some.resent, ids + some.ids
        superseded += some.superseded
        kinds.update(_counts(some))
        if total and time.monotonic() >= tell_next:
            tell_next = time.monotonic() + _PROGRESS_EVERY
            sys.stderr.write(f"sent once more: {resent:,} of {total:,}\n")
    every = tuple(ResentKind(number, *kind) for kind, number in kinds.most_common(_MAX_KINDS))
    return replace(some, meant=meant, already=already, superseded=superseded, resent=resent, ids=ids, kinds=every)


def _counts(some: Resent) -> dict[tuple[str, str], int]:
    return {(kind.endpoint, kind.event): kind.count for kind in some.kinds}


def _print_plan(plan: Resent) -> None:
    """Whether these are the ones that are meant."""
    for kind in plan.kinds:
        sys.stdout.write(on_one_line(f"{kind.count:>8,}  {kind.endpoint}  {kind.event}") + "\n")
    sys.stdout.write(f"would be sent once more: {plan.meant - plan.superseded:,}{_not_sent(plan)}; do it with --yes\n")


def _not_sent(outcome: Resent) -> str:
    return f"; superseded by a newer event: {outcome.superseded:,}" if outcome.superseded else ""


def _said(outcome: Resent, meant: int, again: str) -> str:
    before = f"; {outcome.already:,} were before, with the same --until" if outcome.already else ""
    lines = [f"sent once more: {outcome.resent:,}{before}{_not_sent(outcome)}"]
    if outcome.full:
        left = meant - outcome.resent - outcome.already - outcome.superseded
        lines.append(f"left: {left:,}; the backlog is full (relay.backlog): when it has room, {again}")
    elif outcome.resent == 1:
        lines.append(f"what comes of it: sluice event {outcome.ids[0]}")
    return "".join(f"{line}\n" for line in lines)
