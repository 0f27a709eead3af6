"""`sluice diff`: what an edit of the policies changes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.policies import load
from gateway.policies.edits import differences, waits_for_restart
from sluice.cli.options import json_option
from sluice.cli.screen import print_json
from sluice.config.written import Change


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    json_option(parser)
    parser.set_defaults(run=lambda options: run(options.old, options.new, as_json=options.json))


def run(old: Path, new: Path, *, as_json: bool) -> int:
    """The exit code, as of diff(1): 0 nothing changes, 1 something does."""
    changes = list(differences(load(old, need_secrets=False), load(new, need_secrets=False)))
    if as_json:
        rows = [
            {"key": one.key, "old": one.old, "new": one.new, "needs_restart": waits_for_restart(one.key)}
            for one in changes
        ]
        print_json(rows)
    else:
        sys.stdout.write("".join(f"{change}{_note(change)}\n" for change in changes) or "they say the same\n")
    return 1 if changes else 0


def _note(change: Change) -> str:
    if waits_for_restart(change.key):
        return " (at the next start)"
    is_size = change.key.startswith("limits.") and change.key.endswith((".rate", ".burst"))
    return " (buckets keep their level)" if is_size and change.old and change.new else ""
