"""`sluice limits`: the buckets of a session, workspace or address, looked at, filled, and what they delay let go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sluice.cli import target
from sluice.cli.options import command, ip, seconds, subcommands, target_options
from sluice.cli.screen import print_json, print_rows
from sluice.console.actions.limits import BucketLevel, LimitsReset, ReleaseDelayed, ResetLimits, ShowLimits
from sluice.console.actions.limits_nearest import NearestLimits
from sluice.console.messages.wording import age
from sluice.console.operations import NEAREST_LIMITS, RELEASE_DELAYED, RESET_LIMITS, SHOW_LIMITS

_DOES = {"queue": "delays", "hold": "holds", "drop": "drops", "reject": "refuses"}
_TITLES = ("limit", "for", "tokens", "rate", "now", "numbers of")


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    show = command(commands, "show", "how full the buckets are, and until when they refuse", _show)
    reset = command(commands, "reset", "make the buckets full again", _reset)
    reset.add_argument("--dry-run", action="store_true", help="only say which")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    for one in (show, reset):
        one.add_argument("--session", metavar="ID")
        one.add_argument("--workspace", metavar="ID")
        one.add_argument("--ip", type=ip, metavar="ADDRESS")
        one.add_argument("--event", metavar="TYPE", help="an event type, for limits that count by it")
    release = command(
        commands, "release", "send now what limits with over: queue delay, and clear their debt", _release
    )
    release.add_argument("--session", metavar="ID", required=True)
    near = command(commands, "nearest", "who is nearest to a limit, or over it, of those seen lately", _nearest)
    near.add_argument("--for", type=seconds, default=600.0, metavar="TIME", dest="lasting", help="default: 10m")
    for one in (show, reset, release, near):
        one.add_argument("--limit", metavar="ID", help="only this limit")
        target_options(one)


def _subject(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("session", "workspace", "ip", "event", "limit")}


def _show(options: argparse.Namespace) -> None:
    found = target.ask(options, SHOW_LIMITS, ShowLimits(**_subject(options)))
    if options.json:
        print_json(found)
        return
    _print(found.buckets)
    for other in found.others:
        sys.stdout.write(f"{other.limit}: {other.why}\n")


def _nearest(options: argparse.Namespace) -> None:
    found = target.ask(options, NEAREST_LIMITS, NearestLimits(options.limit, int(options.lasting)))
    if options.json:
        print_json(found)
        return
    if found.began is None:
        _write(["the access log of this machine has no requests of that time (log: {to: files, requests: json})"])
        return
    _print([one.bucket for one in found.subjects])
    less = "" if found.complete else ", which is all that the log has or that is looked at"
    _write([f"of {found.requests} requests since {found.began:%Y-%m-%d %H:%M:%S} UTC{less}"])


def _print(buckets: Sequence[BucketLevel]) -> None:
    rows = []
    for one in buckets:
        rate = f"{one.amount} in {age(one.period)}"
        rows.append((one.limit, one.subject, f"{one.level:g} of {one.burst}", rate, _now(one), one.override or "-"))
    print_rows(_TITLES, rows)


def _now(one: BucketLevel) -> str:
    if not one.wait:
        return "passes"
    if not one.enforced:
        return f"would refuse for {age(one.wait)}"
    return f"{_DOES[one.over]} for {age(one.wait)}"


def _reset(options: argparse.Namespace) -> int:
    request = ResetLimits(**_subject(options), dry_run=True)

    async def work(ask: target.Ask) -> int:
        plan = await ask(RESET_LIMITS, request)
        if options.dry_run or (plan.reset > 1 and not options.yes):
            return _refused(options, plan)
        outcome = await ask(RESET_LIMITS, replace(request, dry_run=False)) if plan.reset else plan
        if options.json:
            print_json(outcome)
        elif outcome.reset:
            _write(
                f"{one.limit}: full again for {one.subject}, it had {one.level:g} of {one.burst}"
                for one in outcome.buckets
            )
        else:
            _write(["every bucket is full already"])
        return 0

    return target.run(options, work)


def _refused(options: argparse.Namespace, plan: LimitsReset) -> int:
    """The exit code of a dry run, or of a person who has not said yes yet."""
    if options.json:
        print_json(plan)
    else:
        _print(plan.buckets)
        _write([f"would be reset: {plan.reset}"])
    if options.dry_run:
        return 0
    sys.stderr.write("sluice: nothing was reset; name one with --limit, or give --yes\n")
    return 1


def _release(options: argparse.Namespace) -> None:
    done = target.ask(options, RELEASE_DELAYED, ReleaseDelayed(session=options.session, limit=options.limit))
    if options.json:
        print_json(done)
        return
    _write(f"{one.limit}: its debt of {one.debt:g} tokens is cleared for {one.subject}" for one in done.debts)
    _write([f"go now instead of later: {done.events}"])


def _write(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
