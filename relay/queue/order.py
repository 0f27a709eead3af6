"""Whether an endpoint's events wait in order of their sessions, or each for itself, and the way from one to the other.

The store says in which form events are stored (`lua/forms.lua`), and relays bring it to what the policies ask for: so
gateways that see an edit sooner or later, and a restart in the middle, change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.queue.layout import PARTITIONS, keys, own_key, wake_channel
from relay.queue.suspects import SUSPECT
from sluice.observe.log import Log
from sluice.store.client import Store, load_script

LOG = Log("relay")
EVERY = 0.5
"""Seconds between two looks whether something is to be sorted."""
_SORT = load_script("relay.queue", "events", "partition", "forms", "sort", drains=True)
_SORTING = b"sorting"
_PAGE = 200
_MAX_READ = 4 * 1024 * 1024
"""Entries, and bytes of records, that the store looks at in one call: a millisecond or two."""


async def keep(store: Store, endpoint: str, *, in_order: bool) -> None:
    """Has events stored so from now on, and begins to sort what waits. Nothing is leased until `go_on` has ended that.

    For who begins with an endpoint or has seen an edit of it, and for nobody else: two processes that see an edit one
    after the other must not undo each other's work. Raises StoreAway or StoreRefused; then it has to be done again.
    """
    wanted = "session" if in_order else "none"
    orders = await _orders(store, endpoint)
    await _bring(store, endpoint, [p for p, order in enumerate(orders) if order != wanted.encode()], wanted)


async def go_on(store: Store, endpoint: str) -> None:
    """Sorts what could not be yet, as it was leased, or has come from another endpoint meanwhile.

    Nothing more than a look where all is sorted. Raises StoreAway or StoreRefused; the next run goes on.
    """
    orders = await _orders(store, endpoint)
    await _bring(store, endpoint, [p for p, order in enumerate(orders) if order == _SORTING], "session")


async def _orders(store: Store, endpoint: str) -> list[bytes | None]:
    return await store.commands(*(("HGET", own_key(endpoint, p, "counts"), "order") for p in range(PARTITIONS)))


async def _bring(store: Store, endpoint: str, partitions: Sequence[int], wanted: str) -> None:
    moved = 0
    for partition in partitions:
        state, after, leased, arrivals = b"more", b"", 0, b""
        while state == b"more":
            args = (wanted, after, _PAGE, _MAX_READ, leased, arrivals, SUSPECT)
            state, after, some, leased, arrivals = await store.run(_SORT, keys(endpoint, partition), args)
            moved += some
    if moved:
        LOG.info("order.sorted", endpoint=endpoint, events=moved)
    if partitions:
        await store.commands(("PUBLISH", wake_channel(endpoint), ",".join(map(str, partitions))))
