"""The active check of an upstream's members: a GET of `health.path`, on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import monotonic

from gateway.policies import Upstream
from gateway.proxy.members import Member
from gateway.proxy.tls import context_of
from sluice.http import client as http1

EVERY = 1.0
"""Seconds from one look to the next; a member that is left out is checked at each."""
WITHIN = 2.0
"""Seconds that a member has for its answer."""
_MAX_READ = 64 * 1024


class Checks:
    """Of the members of one upstream, whose policy has `health`."""

    def __init__(self, upstream: Upstream, members: Sequence[Member]) -> None:
        assert upstream.health is not None
        self._every = upstream.health.every
        self._due = dict.fromkeys(members, 0.0)
        self._probes = {
            member: _Probe(replace(upstream, url=member.address), upstream.health.path) for member in members
        }

    async def run_once(self) -> None:
        """Checks the members that are due, side by side."""
        now = monotonic()
        due = [member for member, at in self._due.items() if member.out or now >= at]
        for member in due:
            self._due[member] = now + self._every - EVERY / 2
        await asyncio.gather(*(self._check(member) for member in due))

    async def _check(self, member: Member) -> None:
        why = await self._probes[member].why_not()
        if why:
            member.failed(why)
        else:
            member.back()


class _Probe:
    def __init__(self, upstream: Upstream, path: str) -> None:
        origin = http1.Origin.of(upstream.url)
        self._pool = http1.Pool(origin, connect=upstream.connect, limit=1, idle=0.0, tls=context_of(upstream))
        self._target = http1.base_path(upstream.url) + path.encode()
        self._headers = [(b"Host", origin.authority), (b"User-Agent", b"Sluice"), (b"Connection", b"close")]

    async def why_not(self) -> str:
        """Why the member is not well; empty: it is."""
        try:
            status, _, _ = await http1.exchange(
                self._pool, b"GET", self._target, self._headers, b"", timeout=WITHIN, most=_MAX_READ
            )
        except http1.UpstreamError as error:
            return f"its check: {error}"
        return "" if status < 400 else f"its check was answered {status}"


async def run_once(checks: Iterable[Checks]) -> None:
    """Of all upstreams."""
    await asyncio.gather(*(one.run_once() for one in checks))
