"""How many gateways there are: what each of them may let through alone while the store is away is its part of a limit.

Owns the key `sl:{gateways}`.
"""

from __future__ import annotations

from gateway.limits.limiter import Limiter
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused, load_script

LOG = Log("gateway")
EVERY = 1.0
_SILENT_FOR = 5_000  # ms
_KEY = "sl:{gateways}"
KEY_PATTERNS = (_KEY,)
_GATEWAYS = load_script("gateway.limits", "gateways")


async def last_said(store: Store, name: str) -> float | None:
    """When a gateway last said that it is there (ms); None: it has not for some seconds. Raises like `Store`."""
    (said,) = await store.commands(("ZSCORE", _KEY, name))
    return None if said is None else float(said)


async def run_once(store: Store, name: str, limiter: Limiter) -> None:
    """Says that this gateway is there, and settles what has passed without the store.

    While that is away the last number known stays.
    """
    await limiter.settle()
    try:
        gateways = int(await store.run(_GATEWAYS, [_KEY], [name, _SILENT_FOR]))
    except (StoreAway, StoreRefused):
        return
    if gateways != limiter.gateways:
        LOG.info("limiter.gateways", gateways=gateways)
        limiter.gateways = gateways
