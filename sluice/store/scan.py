"""All keys of a form, looked for a thousand at a time: for what is done once, and never in the way of requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sluice.store.client import Store
from sluice.store.protocol import deployment
from sluice.store.protocol.errors import ErrorReply, raised

_AT_A_TIME = 1000
_TIMEOUT = 10.0  # seconds, for each thousand


async def scan(store: Store, pattern: str) -> AsyncIterator[bytes]:
    """Those that are there from beginning to end are met, some more than once; of a cluster on all of its servers.

    Raises StoreAway or StoreRefused.
    """
    routes = deployment.routes(store.url, _TIMEOUT)
    try:
        for ask in await routes.servers():
            cursor = b"0"
            while True:
                (reply,) = await ask((("SCAN", cursor, "MATCH", pattern, "COUNT", _AT_A_TIME),))
                if isinstance(reply, ErrorReply):
                    raise raised(reply) from reply
                cursor, keys = reply
                for key in keys:
                    yield key
                if cursor == b"0":
                    break
    finally:
        await routes.close()
