"""Policies and requests as tests need them, with everything that does not matter filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gateway.client_ip import Client, client_of
from gateway.policies import (
    AddressList,
    BodyCost,
    Fixed,
    Limit,
    ListEntry,
    Override,
    Per,
    Route,
    ToUpstream,
    Trust,
)
from gateway.request import Head, head_of
from sluice.config import Rate
from sluice.config.units import network
from sluice.http.client import fields_of
from sluice.http.server.head import read_head
from sluice.http.via import Via

HOURLY = Rate(1, 3600.0)
"""So slow that nothing refills while a test runs."""
Headers = Sequence[tuple[bytes, bytes]]
NOBODY = AddressList()
TRUST = Trust(proxies=NOBODY, hosts=(), lists={}, deny=NOBODY)


def a_list(*texts: str) -> AddressList:
    return AddressList(tuple(ListEntry(network(text)) for text in texts))


def a_client(address: str = "192.0.2.7", headers: Headers = (), proxies: AddressList = NOBODY) -> Client:
    return client_of(address, fields_of(headers), proxies)


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
    per: tuple[Per, ...] = (),
    rate: Rate = HOURLY,
    burst: int = 1,
    over: Literal["queue", "hold", "drop", "reject"] = "reject",
    exempt: tuple[str, ...] = (),
    observe: bool = False,
    enforce: float = 1.0,
    when_store_away: Literal["allow", "deny", "local"] = "local",
    cost: int | BodyCost = 1,
    prefixes: tuple[int, int] = (32, 64),
    overrides: tuple[Override, ...] = (),
) -> Limit:
    share = 0.0 if observe else enforce
    return Limit(name, events, per, rate, burst, over, exempt, share, when_store_away, cost, prefixes, overrides)


def a_head(*headers: tuple[bytes, bytes], target: bytes = b"/", trust: Trust = TRUST) -> Head:
    """Of a GET of 192.0.2.7, as it is read from these bytes."""
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    return head_of(read_head(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, lines)), "192.0.2.7", "http", trust, Via())
