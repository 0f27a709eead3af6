"""Whether an answer says that the upstream itself fails. No I/O.

What an application has written is an answer like any other: a Laravel in maintenance (503 with Retry-After) does what
it was told to. A 502 or 504 that it did not write comes from a proxy in front of it, which cannot reach it.
"""

from __future__ import annotations

from collections.abc import Iterable

_OF_PROXIES = frozenset((502, 504))
_PROXIES = (b"nginx", b"openresty", b"apache", b"caddy", b"envoy", b"litespeed", b"awselb")
"""How the Server field of a known proxy begins; HAProxy and Traefik write none."""
_OF_APPLICATIONS = frozenset((b"cache-control", b"set-cookie", b"x-powered-by"))
"""Symfony, on which Laravel stands, writes Cache-Control into each answer; none of these proxies does into its own."""


def says_that_it_fails(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """A 502 or 504 that no application has written: it has no body, or a known proxy says that it is its own."""
    if status not in _OF_PROXIES:
        return False
    fields = {name.lower(): value for name, value in headers}
    if not _OF_APPLICATIONS.isdisjoint(fields):
        return False
    return fields.get(b"content-length") == b"0" or fields.get(b"server", b"").lower().startswith(_PROXIES)
