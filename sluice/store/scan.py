"""All keys of a form, looked for a thousand at a time: for what is done once, and never in the way of requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

from redis.exceptions import RedisError

from sluice.store.client import Store, StoreAway
from sluice.store.protocol import deployment

_AT_A_TIME = 1000
_TIMEOUT = 10.0  # seconds, for each thousand


async def scan(store: Store, pattern: str) -> AsyncIterator[bytes]:
    """Those that are there from beginning to end are met, some more than once; of a cluster on all of its servers.

    Raises StoreAway.
    """
    client = deployment.client_of_all(store.url, _TIMEOUT)
    try:
        async for key in client.scan_iter(match=pattern, count=_AT_A_TIME):
            yield key
    except (RedisError, OSError) as error:
        raise StoreAway(str(error)) from error
    finally:
        await deployment.close_client(client)
