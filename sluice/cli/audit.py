"""`sluice audit`: who has changed what."""

from __future__ import annotations

import argparse
import sys

import orjson

from sluice.cli.options import target_options
from sluice.cli.screen import print_json, screen, table
from sluice.cli.target import ask
from sluice.console.actions.audit_log import AuditLine, ListAudit
from sluice.console.operations import LIST_AUDIT
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--action", metavar="NAME", help="only changes of this kind, such as hold_circuit")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="the newest N of them (100)")
    parser.add_argument("--after", metavar="PLACE", help="where the page before has ended")
    target_options(parser)
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> None:
    found = ask(options, LIST_AUDIT, ListAudit(options.action, options.limit, options.after))
    if options.json:
        print_json(found)
        return
    if not found.lines:
        sys.stdout.write("nobody has changed anything\n")
        return
    rows = table("at", "who", "from", "through", "action", "what", "came of it")
    for one in found.lines:
        at = one.at.isoformat(timespec="seconds").replace("+00:00", "Z")
        rows.add_row(
            at, *map(on_one_line, (one.who, one.place, one.through, one.action, _json(one.request), _end(one)))
        )
    screen().print(rows)
    if found.next is not None:
        sys.stdout.write(f"older ones: sluice audit --after {found.next}\n")


def _end(line: AuditLine) -> str:
    return f"failed: {line.error}" if line.error is not None else _json(line.result)


def _json(members: object) -> str:
    return orjson.dumps(members).decode()
