"""Which existing worker starts which session when all of them ask Laravel for all accounts. Pure.

    who has it already                                                   its owner
    else, one that is being created elsewhere                            nobody
    else, whose it was last                                              the login lies on that disk
    else, a session that the registry does not know                      as Laravel divides: the logins lie there
    the same with `shared_profiles`                                      the worker with the fewest sessions

The fourth is decided once: the registry keeps what was decided first, whoever asks next.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sessions.policies import ExistingWorker, host_and_port
from sessions.registry import Owner, Unknown, Unowned


@dataclass(frozen=True, slots=True)
class Account:
    """What Laravel says of a session: its workspace, by which it divides (0 where it says none)."""

    session: str
    workspace: int


def first_homes(
    accounts: Iterable[Account], workers: Sequence[str], loads: Mapping[str, int] | None = None
) -> dict[str, str]:
    """Where each of these begins that nobody knows yet: session → worker.

    `workers`: in the order of the policies, which is that of Laravel's WHATSAPP_INSTANCE_1, _2 and so on; Laravel takes
    `instances[workspace_id % instance_count]`, counted from 0. `loads`: how many sessions the workers have among which
    the fewest decide; None: Laravel's way decides.
    """
    if loads is None:
        return {account.session: workers[account.workspace % len(workers)] for account in accounts}
    heap = [(loads[worker], place, worker) for place, worker in enumerate(workers) if worker in loads]
    heapq.heapify(heap)
    homes: dict[str, str] = {}
    for account in accounts:
        load, place, worker = heap[0]
        homes[account.session] = worker
        heapq.heapreplace(heap, (load + 1, place, worker))
    return homes


def home_of(found: Owner | Unowned | Unknown, workers: Sequence[ExistingWorker]) -> str | None:
    """The existing worker that has a session, or had it last; None: none of these, or it is being created elsewhere.

    One that was renamed since is known by its address: the logins are where they were.
    """
    if isinstance(found, Unknown):
        return None
    last = found if isinstance(found, Owner) else found.last
    if last is None or not last.existing:
        return None
    if isinstance(found, Unowned) and found.held_at not in (None, last.worker):
        return None
    if any(worker.name == last.worker for worker in workers):
        return last.worker
    return next((w.name for w in workers if host_and_port(w.url) == host_and_port(last.url)), None)
