"""`sluice explain`: which route, limits and buckets a request would meet, and how full those are now."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from sluice.cli import target
from sluice.cli.errors import CommandError
from sluice.cli.options import header, ip, target_options
from sluice.cli.screen import print_json
from sluice.config.problems import quoted
from sluice.console.actions.explaining import ExplainedRequest, ExplainRequest
from sluice.console.operations import EXPLAIN_REQUEST


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="GET", metavar="METHOD")
    parser.add_argument("--path", required=True, metavar="PATH", help="with its query, as it would come")
    parser.add_argument("--ip", type=ip, default="127.0.0.1", metavar="ADDRESS", help="who asks (default: 127.0.0.1)")
    parser.add_argument("--on", default="", metavar="NAME", help="the listener that it comes to (default: the first)")
    parser.add_argument("--header", type=header, action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--body", default="", metavar="JSON", help="the body itself, or @FILE")
    target_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if not options.path.startswith("/"):
        raise CommandError(f"{quoted(options.path)} is not a path; write --path /{options.path}")
    body = _read(options.body[1:]) if options.body.startswith("@") else options.body
    headers = tuple(f"{name}: {value}" for name, value in options.header)
    request = ExplainRequest(options.path, options.method, options.ip, options.on, headers, body)
    found = target.ask(options, EXPLAIN_REQUEST, request)
    if options.json:
        print_json(found)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(found)))


def _read(file: str) -> str:
    try:
        return Path(file).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _lines(found: ExplainedRequest) -> list[str]:
    lines = [f"client     {found.client}"] if found.client else []
    lines += [f"on         {found.on}"] if found.on else []
    if found.route:
        lines.append(f"route      {found.route} (line {found.line}): {found.where}")
    lines += [f"           {note}" for note in found.notes]
    if found.signature:
        taken = f"takes from {', '.join(found.on_refusal)}" if found.on_refusal else "takes from no limit"
        unsigned = f"without a valid one it is 401, and {taken}"
        lines.append(f"signature  not checked here: signatures.{found.signature.name}; {unsigned}")
    names = (("event", found.event), ("session", found.session), ("workspace", found.workspace))
    lines += [f"{name:<10} {value}" for name, value in names if value]
    for met in found.limits:
        level = "unknown" if met.level is None else f"{max(0.0, math.floor(met.level * 10) / 10):g}"
        numbers = f"{level} of {met.burst} left, one more each {met.seconds_for_one:g}s, costs {met.cost}"
        lines.append(f"limit      {met.id}: {met.how}; {numbers}")
    lines += [f"           {name} {why}" for name, why in found.not_met.items()]
    return [*lines, f"outcome    {found.outcome}"]
