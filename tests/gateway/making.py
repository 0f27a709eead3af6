"""Policies and requests as tests need them, with everything that does not matter filled in."""

from __future__ import annotations

from typing import Any, Literal

from gateway.address import Client, Headers, client_of
from runtime.policies import Fixed, Limit, Network, Rate, Route, ToUpstream, Trust
from runtime.policies.units import network

HOURLY = Rate(1, 3600.0)
"""So slow that nothing refills while a test runs."""
TRUST = Trust(proxies=(), hosts=(), lists={}, deny=())


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(network(text) for text in texts)


def a_client(address: str = "192.0.2.7", headers: Headers = (), proxies: tuple[Network, ...] = ()) -> Client:
    return client_of(address, headers, proxies)


def a_route(path: str, *methods: str, name: str = "") -> Route:
    """`name` tells two routes of one path apart."""
    return Route(
        path=path,
        methods=frozenset(methods),
        verify=None,
        event=Fixed(name) if name else None,
        session=None,
        action=ToUpstream("laravel"),
        body=2**20,
        line=1,
    )


def a_limit(
    name: str = "limit",
    *,
    events: tuple[str, ...] = (),
    per: tuple[Literal["session", "ip", "event"], ...] = (),
    rate: Rate = HOURLY,
    burst: int = 1,
    over: Literal["queue", "drop", "reject"] = "reject",
    exempt: tuple[str, ...] = (),
    observe: bool = False,
    when_store_away: Literal["allow", "deny", "local"] = "local",
) -> Limit:
    return Limit(name, events, per, rate, burst, over, exempt, observe, when_store_away)


def a_scope(headers: Headers, **more: Any) -> dict[str, Any]:
    """An HTTP scope as uvicorn makes it."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": list(headers),
        "client": ("192.0.2.7", 4711),
        "server": ("127.0.0.1", 8080),
        "scheme": "http",
    }
    return scope | more
