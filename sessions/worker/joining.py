"""A worker of ours becomes a member at a gateway."""

from __future__ import annotations

from collections.abc import Callable

from sessions.membership import START_AT_ONCE, Membership
from sessions.worker.worker import Worker
from sluice.config import Signature


def join(
    worker: Worker,
    gateway: str,
    signature: Signature,
    url: str,
    capacity: int | Callable[[], int],
    *,
    dropped: Callable[[], int] | None = None,
    start_at_once: int = START_AT_ONCE,
) -> Membership:
    """The membership, which is to be run. `url`: where the worker is asked; `capacity`, `dropped`: see `Membership`."""
    membership = Membership(
        gateway,
        signature,
        worker=worker.name,
        url=url,
        capacity=capacity,
        start=worker.start,
        stop=worker.stop,
        state=worker.state,
        start_at_once=start_at_once,
        takes_ids=True,
        dropped=dropped,
    )
    worker.fence_of, worker.accept, worker.on_gone = membership.fence_of, membership.accept, membership.end
    return membership
