"""`sluice policies`: the text that is in force, and what another one would do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from sluice.cli import target
from sluice.cli.errors import CommandError
from sluice.cli.options import command, seconds, subcommands, target_options
from sluice.cli.screen import print_json
from sluice.config.written import Change
from sluice.console.actions.trying import (
    LimitTrial,
    ShowPolicies,
    TriedLimit,
    TriedPolicies,
    TriedRequests,
    TryPolicies,
)
from sluice.console.operations import SHOW_POLICIES, TRY_POLICIES

_WORST = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    show = command(commands, "show", "the text of the policies in force", _show)
    trial = command(commands, "try", "mistakes of another text, what it changes, whom it would have refused", _try)
    trial.add_argument("file", type=Path, metavar="FILE", help="the other text; it stays where it is")
    trial.add_argument("--for", type=seconds, default=3600.0, metavar="TIME", dest="lasting", help="default: 1h")
    trial.add_argument("--no-secrets", action="store_true", help="where they are not at hand: do not look")
    for one in (show, trial):
        target_options(one)


def _show(options: argparse.Namespace) -> int:
    found = target.ask(options, SHOW_POLICIES, ShowPolicies())
    if options.json:
        print_json(found)
        return 0
    if found.text is None:
        raise CommandError(f"revision {found.revision} is in force, and its text is not there any more")
    sys.stdout.write(found.text)
    return 0


def _try(options: argparse.Namespace) -> int:
    """The exit code: 0 it is valid and would have refused nobody, 1 otherwise."""

    async def work(ask: target.Ask) -> TriedPolicies:
        request = TryPolicies(_read(options.file), int(options.lasting), secrets=not options.no_secrets)
        return await ask(TRY_POLICIES, request)

    found = target.run(options, work)
    if options.json:
        print_json(found)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(found)))
    return 0 if found.valid and not (found.log and found.log.refused) else 1


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _lines(found: TriedPolicies) -> Iterator[str]:
    for one in found.problems:
        place = f"line {one.line}, column {one.column}: " if one.line else ""
        yield f"{place}{one.key}{': ' if one.key else ''}{one.message}; {one.hint}"
    if not found.valid:
        return
    yield f"valid (revision {found.revision}); in force is {found.in_force}"
    yield from (f"warning: {one}" for one in found.warnings)
    if found.changes is None:
        yield f"the text of revision {found.in_force} is not there any more, so nobody knows what changes"
    for change in found.changes or ():
        yield f"{Change(change.key, change.old, change.new)}{' (at the next start)' if change.needs_restart else ''}"
    if found.log is None:
        yield "the access log of this machine has no requests of that time (log: {to: files, requests: json})"
    else:
        yield from _requests(found.log)


def _requests(log: TriedRequests) -> Iterator[str]:
    less = "" if log.complete else ", which is all that the log has or that is looked at"
    yield f"{log.requests} requests since {log.began:%Y-%m-%d %H:%M:%S} UTC{less}"
    now = "" if log.refused_in_force is None else f", by what is in force {log.refused_in_force}"
    yield f"refused then {log.refused_then}, by this {log.refused}{now}"
    for limit in log.limits:
        yield from _limit(limit)
    yield "an estimate: buckets begin full, and costs in bodies and workspaces are not in the log"


def _limit(one: TriedLimit) -> Iterator[str]:
    before = f" (in force: {_counts(one.in_force)})" if one.in_force else ""
    yield f"  {one.limit:<12} {_counts(one.tried) if one.tried else 'is gone'}{before}"
    for subject in one.worst[:_WORST]:
        yield f"               {subject.times} of {subject.subject}"


def _counts(one: LimitTrial) -> str:
    counts = (
        (one.refused, "refused"), (one.dropped, "dropped"), (one.delayed, "queued"), (one.held, "held"),
        (one.would_reject, "would be refused if it were enforced"),
    )  # fmt: skip
    return ", ".join([f"{one.passed} passed", *(f"{many} {what}" for many, what in counts if many)])
