"""Existing workers that start what is not theirs."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.console.messages.wording import age
from sluice.console.status import DivisionStatus


def division(status: DivisionStatus) -> Iterator[str]:
    for worker in status.without_prefix:
        yield (
            f"worker {worker} of sessions.workers has no prefix, so when it starts it starts the sessions of all "
            "workers: give it one there, such as prefix: /w/w1, and put the same at the end of its LARAVEL_URL"
        )
    for one in status.undivided:
        yield (
            f"worker {one.worker} was started {age(one.up_s)} ago and did not get the list of its sessions here, so it "
            f"runs those of all workers, or none: let its LARAVEL_URL end with {one.prefix}, and start it again"
        )
