"""What a store's URL says of its servers."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runtime.resp.address import parse
from runtime.resp.routes import One, Routes


def routes(url: str, timeout: float) -> Routes:
    """Connects to nothing yet. Raises ValueError for a URL that is none of a store."""
    return One(parse(url), timeout)


def client(url: str, timeout: float) -> Redis:
    """redis-py's client for the same servers, without its retries."""
    once = Retry(NoBackoff(), 0)
    redis: Redis = Redis.from_url(  # type: ignore[no-untyped-call, unused-ignore]
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=once, protocol=2
    )
    return redis
