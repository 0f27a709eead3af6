"""`sluice replay`: who would have been refused under other policies, by the access log."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.replay import Named, Replay
from sluice.cli.errors import CommandError
from sluice.cli.options import json_option, policies_option
from sluice.cli.policies import at_hand
from sluice.cli.screen import print_json

_WORST = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOG", help="<data>/logs/gateway.jsonl, or - for standard input")
    json_option(parser)
    policies_option(parser)
    parser.set_defaults(run=lambda options: run(options.log, options.policies, as_json=options.json))


def run(log: str, policies: Path, *, as_json: bool) -> int:
    """The exit code: 0 nobody would have been refused, 1 somebody would."""
    replay = Replay(at_hand(policies))
    replay.feed(_lines(log))
    if not replay.requests:
        raise CommandError(f"{log} holds no requests; the access log is <data>/logs/gateway.jsonl")
    if as_json:
        print_json(_fields(replay))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _report(replay)))
    return 1 if replay.refused_now else 0


def _lines(log: str) -> Iterator[bytes]:
    if log == "-":
        yield from sys.stdin.buffer
        return
    try:
        with open(log, "rb") as file:
            yield from file
    except OSError as error:
        raise CommandError(f"{log} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _fields(replay: Replay) -> dict[str, object]:
    return {
        "requests": replay.requests,
        "skipped_lines": replay.skipped,
        "refused_then": replay.refused_then,
        "refused_now": replay.refused_now,
        "limits": {
            name: {
                "passed": counts.passed,
                "refused": counts.refused,
                "dropped": counts.dropped,
                "delayed": counts.delayed,
                "longest_delay_seconds": counts.max_delay,
                "held": counts.held,
                "longest_hold_seconds": counts.max_hold,
                "would_reject": counts.would_reject,
                "worst": {_text(subject): times for subject, times in counts.worst.most_common(_WORST)},
            }
            for name, counts in replay.limits.items()
        },
    }


def _text(subject: Named) -> str:
    return " ".join(subject) or "everybody"


def _report(replay: Replay) -> Iterator[str]:
    yield f"{replay.requests} requests, {replay.skipped} other lines"
    yield f"refused then {replay.refused_then}, refused now {replay.refused_now}"
    for name, counts in replay.limits.items():
        parts = [f"{counts.passed} passed"]
        parts += [f"{n} {what}" for n, what in ((counts.refused, "refused"), (counts.dropped, "dropped")) if n]
        if counts.delayed:
            parts.append(f"{counts.delayed} queued for up to {counts.max_delay:.1f}s")
        if counts.held:
            parts.append(f"{counts.held} held for up to {counts.max_hold:.1f}s")
        if counts.would_reject:
            parts.append(f"{counts.would_reject} would be refused if it were enforced")
        yield f"  {name:<12} {', '.join(parts)}"
        for subject, times in counts.worst.most_common(_WORST):
            yield f"               {times} of {_text(subject)}"
    if replay.forgotten:
        yield f"{replay.forgotten} buckets were forgotten for want of room: too little is refused here"
    yield "not in the log, and so not counted: costs in bodies, and workspaces"
