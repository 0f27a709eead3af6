"""The policies that a command works with, and what it does while their file is wrong, gone or only half written."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from gateway.policies import Policies, load
from sluice.cli.errors import CommandError
from sluice.cli.options import POLICIES
from sluice.config import PolicyError, last_good, whole


def policies_of(options: argparse.Namespace) -> Policies:
    """Those of a command that looks into a running Sluice. Raises CommandError."""
    return at_hand(options.policies or POLICIES)


def at_hand(path: Path) -> Policies:
    """Those of the file, or of its last good copy while it is wrong; their secrets need not be at hand.

    Raises CommandError.
    """
    try:
        return load(path, need_secrets=False)
    except PolicyError as error:
        return _last_good(path, error)


def to_run(path: Path) -> Policies:
    """Those that a process runs with. Raises PolicyError.

    A process that a supervisor starts again goes on with what the others work by, should the file be wrong just now,
    or half written: an edit must not stop what runs. What is wrong is told as of any edit, by the watch over the file.
    """
    if not os.environ.get("SLUICE_SUPERVISED"):
        return load(path)
    copy = last_good.find(path)
    try:
        if copy is None or not _may_be_cut_off(path, copy.content):
            return load(path)
    except PolicyError:
        if copy is None:
            raise
    try:
        return load(path, content=copy.content)
    except PolicyError:
        return load(path)  # what is wrong with the file itself is what a person can put right


def _may_be_cut_off(path: Path, good: bytes) -> bool:
    looked = whole.look(path)
    if looked is None or time.time() - path.stat().st_mtime > whole.STILL_FOR:
        return False
    return whole.doubt(whole.Look(good, looked.device, looked.inode), looked) is not None


def _last_good(path: Path, wrong: PolicyError) -> Policies:
    copy = last_good.find(path)
    if copy is None:
        places = " or ".join(map(str, last_good.folders(path)))
        raise CommandError(f"{wrong}\nthere is no last good copy of {path} in {places}")
    try:
        policies = load(path, need_secrets=False, content=copy.content)
    except PolicyError as error:
        raise CommandError(f"{wrong}\nthe last good copy, revision {copy.revision}, is wrong too: {error}") from None
    first, others = wrong.problems[0], len(wrong.problems) - 1
    parts = (f"line {first.line}" if first.line else "", first.key, first.message)
    more = f"; and {others} more: sluice check" if others else ""
    about = ": ".join(filter(None, parts)) + more
    sys.stderr.write(f"sluice: {path} is wrong ({about}); using the last good copy, revision {copy.revision}\n")
    return policies
