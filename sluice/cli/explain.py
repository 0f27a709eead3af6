"""`sluice explain`: which route, limits and buckets a request would meet, and how full those are now."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.explain import Explanation, HypotheticalRequest, explain, outcome
from gateway.limits.applicable import DELAY, HOLD, OBSERVE, REFUSE, Bucket
from gateway.limits.take import levels_of
from gateway.policies import Policies
from sluice.cli.errors import CommandError
from sluice.cli.options import header, ip, json_option, policies_option
from sluice.cli.policies import at_hand
from sluice.cli.screen import print_json
from sluice.config.problems import quoted
from sluice.process.addresses import store_url
from sluice.store.client import Store, StoreAway, StoreRefused

_TIMEOUT = 1.0
_MODES = {
    REFUSE: "enforced",
    DELAY: "queued when it is used up",
    OBSERVE: "only observed",
    HOLD: "held when it is used up",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="GET", metavar="METHOD")
    parser.add_argument("--path", required=True, metavar="PATH", help="with its query, as it would come")
    parser.add_argument("--ip", type=ip, default="127.0.0.1", metavar="ADDRESS", help="who asks (default: 127.0.0.1)")
    parser.add_argument("--on", default="", metavar="NAME", help="the listener that it comes to (default: the first)")
    parser.add_argument("--header", type=header, action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--body", default="", metavar="JSON", help="the body itself, or @FILE")
    json_option(parser)
    policies_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if not options.path.startswith("/"):
        raise CommandError(f"{quoted(options.path)} is not a path; write --path /{options.path}")
    body = _read(options.body[1:]) if options.body.startswith("@") else options.body.encode()
    headers = tuple(options.header)
    request = HypotheticalRequest(options.method.upper(), options.path, options.ip, headers, body, options.on)
    return run(options.policies, request, as_json=options.json)


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None


def run(path: Path, request: HypotheticalRequest, *, as_json: bool) -> int:
    """The exit code: 0, whatever would become of the request."""
    policies = at_hand(path)
    known = [listener.name for listener in policies.listeners]
    if request.on and request.on not in known:
        raise CommandError(f"--on: no listener is called {quoted(request.on)}; there are: {', '.join(known)}")
    found = explain(policies, request, time.time())
    levels = asyncio.run(_levels(policies, found.buckets))
    if as_json:
        print_json(_fields(found, levels))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(found, levels)))
    return 0


async def _levels(policies: Policies, buckets: Sequence[Bucket]) -> list[float] | None:
    """None: the store does not answer, so nobody knows."""
    if not buckets:
        return []
    store = Store(store_url(policies), timeout=_TIMEOUT)
    try:
        return await levels_of(store, buckets)
    except (StoreAway, StoreRefused):
        return None
    finally:
        await store.close()


def _lines(found: Explanation, levels: Sequence[float] | None) -> list[str]:
    lines = [f"client     {found.client}"] if found.client else []
    lines += [f"on         {found.on}"] if found.on else []
    if found.route:
        lines.append(f"route      {found.route} (line {found.line}): {found.destination}")
    lines += [f"           {note}" for note in found.notes]
    if found.signature:
        taken = f"takes from {', '.join(found.on_refusal)}" if found.on_refusal else "takes from no limit"
        lines.append(
            f"signature  not checked here: signatures.{found.signature}; without a valid one it is 401, and {taken}"
        )
    lines += [f"{name:<10} {value}" for name, value in _names(found).items() if value]
    for i, bucket in enumerate(found.buckets):
        level = "unknown" if levels is None else f"{max(0.0, math.floor(levels[i] * 10) / 10):g}"
        numbers = f"{level} of {bucket.burst} left, one more each {bucket.interval:g}s, costs {bucket.cost}"
        lines.append(f"limit      {bucket.limit.id}: {_MODES[bucket.mode]}; {numbers}")
    lines += [f"           {name} {why}" for name, why in found.not_applicable.items()]
    return [*lines, f"outcome    {outcome(found, levels)}"]


def _names(found: Explanation) -> dict[str, str | None]:
    subject = found.subject
    names = (subject.event, subject.session, subject.workspace) if subject else (None, None, None)
    return dict(zip(("event", "session", "workspace"), names, strict=True))


def _fields(found: Explanation, levels: Sequence[float] | None) -> dict[str, object]:
    return {
        "client": found.client,
        "on": found.on,
        "route": found.route,
        "line": found.line,
        "where": found.destination or None,
        **_names(found),
        "notes": found.notes,
        "signature": found.signature and {"name": found.signature, "checked": False},
        "limits": [
            {
                "id": bucket.limit.id,
                "how": _MODES[bucket.mode],
                "burst": bucket.burst,
                "seconds_for_one": bucket.interval,
                "cost": bucket.cost,
                "level": None if levels is None else levels[i],
            }
            for i, bucket in enumerate(found.buckets)
        ],
        "not_met": found.not_applicable,
        "on_refusal": found.on_refusal,
        "outcome": outcome(found, levels),
    }
