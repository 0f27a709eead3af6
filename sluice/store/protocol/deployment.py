"""What a store's URL says of its servers.

    redis://  rediss://  unix://                                      one server; see redis-py for all they can say
    redis+sentinel://user:password@host:26379,host:26379/mymaster/0   the master of that name, database 0
    redis+cluster://user:password@host:6379,host:6379                 a cluster, of which some servers are named

`rediss+…` is the same over TLS. The login is the store's; that of the sentinels goes into `?sentinel_username=` and
`?sentinel_password=`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from sluice.store.protocol.address import parse
from sluice.store.protocol.cluster import Cluster
from sluice.store.protocol.routes import One, Routes
from sluice.store.protocol.sentinel import Master

_SENTINEL, _STORE = 26379, 6379


def routes(url: str, timeout: float) -> Routes:
    """Connects to nothing yet. Raises ValueError for a URL that is none of a store."""
    match _kind(url):
        case "sentinel":
            sentinels, masters, name = _sentinels(url)
            return Master([parse(sentinel) for sentinel in sentinels], parse(masters), name, timeout)
        case "cluster":
            return Cluster([parse(server) for server in _each(url, _STORE, _rest(url))], timeout)
        case _:
            return One(parse(url), timeout)


def client(url: str, timeout: float) -> Redis:
    """redis-py's client, without its retries; of a cluster for the first server that the URL names."""
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2}
    options["driver_info"] = None  # it would tell the server its version, for which our user needs no right
    once = Retry(NoBackoff(), 0)
    if _kind(url) == "sentinel":
        sentinels, masters, name = _sentinels(url)
        addresses = [(address.host, address.port) for address in map(parse, sentinels)]
        theirs, ours = {**_options(sentinels[0]), **options}, {**_options(masters), **options}
        topology = Sentinel(addresses, sentinel_kwargs=theirs, **ours)  # type: ignore[no-untyped-call, unused-ignore]
        master: Redis = topology.master_for(name, retry=once)
        return master
    if _kind(url) == "cluster":
        url = _each(url, _STORE, _rest(url))[0]
    client: Redis = Redis.from_url(url, retry=once, **options)  # type: ignore[no-untyped-call, unused-ignore]
    return client


async def close_client(client: Redis) -> None:
    """With its connections to sentinels, which redis-py leaves open."""
    await client.aclose()
    if isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _kind(url: str) -> str:
    return url.partition("://")[0].partition("+")[2]


def _sentinels(url: str) -> tuple[list[str], str, str]:
    """A URL for each sentinel, one with what all masters have in common, and the master's name."""
    parts = urlsplit(url)
    name, _, db = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("names no master")
    options = dict(parse_qsl(parts.query))
    login = {key: options.pop(f"sentinel_{key}") for key in ("username", "password") if f"sentinel_{key}" in options}
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    sentinels = _each(bare, _SENTINEL, "?" + urlencode({**options, **login}))
    return sentinels, _each(url, _STORE, f"/{db}?{urlencode(options)}")[0], unquote(name)


def _each(url: str, port: int, rest: str) -> list[str]:
    """A plain URL for each host of this one. `port`: where none is named; `rest`: what follows the host."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    scheme = parts.scheme.partition("+")[0]
    if not all(hosts.split(",")):
        raise ValueError("names no host")
    return [f"{scheme}://{login}{at}{_with_port(host, port)}{rest}" for host in hosts.split(",")]


def _with_port(host: str, port: int) -> str:
    return host if ":" in host.rpartition("]")[2] else f"{host}:{port}"


def _rest(url: str) -> str:
    return "?" + urlsplit(url).query


def _options(url: str) -> dict[str, Any]:
    """What redis-py makes of the URL, without the host."""
    options: dict[str, Any] = dict(parse_url(url))
    tls = options.pop("connection_class", None) is SSLConnection
    return {key: value for key, value in options.items() if key not in ("host", "port")} | {"ssl": tls}
