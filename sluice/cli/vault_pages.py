"""Commands that go through all sessions of the vault, page by page: how far one is, and how a stopped one goes on."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TypeVar

from sluice.cli import target
from sluice.cli.options import target_options
from sluice.console.actions.deployment import Deployment
from sluice.console.actions.vault import MAX_LISTED, ListProfiles
from sluice.console.actions.vault_checks import VerifiedProfiles, VerifyProfiles
from sluice.console.actions.vault_upkeep import PrunedProfiles, PruneProfiles, RekeyedProfiles, RekeyProfiles
from sluice.console.operations import LIST_PROFILES, Operation
from sluice.observe.printable import on_one_line

_PROGRESS_EVERY = 2.0  # seconds
Q = TypeVar("Q", VerifyProfiles, PruneProfiles, RekeyProfiles)
R = TypeVar("R", VerifiedProfiles, PrunedProfiles, RekeyedProfiles)


def paged_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--after", metavar="SESSION", help="go on behind this one, where a run was stopped")
    target_options(parser)


async def pages(ask: target.Ask, operation: Operation[Deployment, Q, R], request: Q) -> AsyncIterator[R]:
    page = await ask(operation, request)
    yield page
    while page.next is not None:
        page = await ask(operation, replace(request, after=page.next))
        yield page


async def sessions(ask: target.Ask, after: str | None) -> int:
    """How many there are behind this one."""
    page = await ask(LIST_PROFILES, ListProfiles(MAX_LISTED, after))
    count = len(page.profiles)
    while page.next is not None:
        page = await ask(LIST_PROFILES, ListProfiles(MAX_LISTED, page.next))
        count += len(page.profiles)
    return count


class Progress:
    """Told on standard error every few seconds; where a run ends early, how to go on from there."""

    def __init__(self, done: str, total: int, after: str | None) -> None:
        self._done, self._total, self._count, self._after = done, total, 0, after
        self._tell_next = time.monotonic() + _PROGRESS_EVERY

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and self._after is not None:
            sys.stderr.write(
                on_one_line(f"sluice: stopped early; go on with --after {shlex.quote(self._after)}") + "\n"
            )

    def step(self, count: int, after: str | None) -> None:
        self._count, self._after = self._count + count, after
        if after is not None and time.monotonic() >= self._tell_next:
            self._tell_next = time.monotonic() + _PROGRESS_EVERY
            sys.stderr.write(f"{self._done}: {self._count:,} of {self._total:,} sessions\n")
