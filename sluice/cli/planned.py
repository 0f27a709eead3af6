"""What a command does to many at once: it shows the plan, asks, does it, and says what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping, Sized
from typing import Protocol, TypeVar

from sluice.cli.screen import is_sure, print_json


class Planned(Protocol):
    """The answer of an operation that has a dry run."""

    @property
    def sessions(self) -> Sized: ...
    @property
    def outcomes(self) -> Mapping[str, int]: ...


P = TypeVar("P", bound=Planned)


async def plan_then_act(
    options: argparse.Namespace,
    perform: Callable[[bool], Awaitable[P]],
    show: Callable[[P], None],
    *,
    verb: str,
    participle: str,
) -> P | None:
    """What was done; None: nothing was to be done, or it was a dry run. `perform(True)` is a dry run of it.

    Raises SystemExit with 1 where nobody says yes.
    """
    plan = await perform(True)
    if not options.json:
        show(plan)
    elif options.dry_run or not plan.sessions:
        print_json(plan)
    if options.dry_run or not plan.sessions:
        return None
    if not options.yes and (options.json or not is_sure(f"{verb} them?")):
        sys.stderr.write(f"sluice: nothing was {participle}; say yes, or give --yes\n")
        raise SystemExit(1)
    done = await perform(False)
    if options.json:
        print_json(done)
    else:
        counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(done.outcomes.items()))
        sys.stdout.write(f"{counts or 'none was left'}\n")
    return done
