"""An upstream with several members: requests go to the one with the fewest under way, and past those that fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Final

from gateway import metrics
from gateway.policies import Upstream
from gateway.proxy.circuit import UpstreamCircuit
from gateway.proxy.members import Member, chosen
from gateway.proxy.shares import ShareRule
from gateway.proxy.upstream import Downstream, UpstreamClient, UpstreamRequest, is_failure, repeatable
from sluice.http import client as http1

PROBE_WITHIN: Final = 2.0
"""Seconds that a member which is left out has for a probe; then the request goes on to another one."""


class BalancedUpstream(UpstreamClient):
    """To its caller it is as one address. The connections are those of `clients`, one for each of `members`."""

    def __init__(self, upstream: Upstream, rule: ShareRule, circuit: UpstreamCircuit | None = None) -> None:
        super().__init__(upstream, rule, circuit)
        self.clients = [UpstreamClient(replace(upstream, url=url, urls=()), rule) for url in upstream.members]
        self.members = [
            Member(upstream.name, client.upstream.url, client.in_use, checked=upstream.health is not None)
            for client in self.clients
        ]
        self._last: Member | None = None
        self._probe_within = http1.Deadlines(min(PROBE_WITHIN, upstream.headers))

    async def attempt(self, outgoing: UpstreamRequest, client: Downstream) -> http1.Response:
        """Goes on to another member where nothing was sent to the first, or the request is safe to repeat."""
        tried: list[Member] = []
        safe = repeatable(outgoing)
        while True:
            member, probe = self.choose(tried, may_probe=safe)
            began = monotonic()
            tried.append(member)
            request = self._probe_of(outgoing) if probe else outgoing
            try:
                response = await self._client_of(member).attempt(request, client)
            except http1.PoolExhausted:
                raise  # the others have no fewer requests under way
            except http1.UpstreamError as error:
                if client.awaits_client:
                    raise  # it gave up on a slow client
                member.failed(str(error))
                last = client.given_up or len(tried) == len(self.members)
                if last or not (nothing_was_sent(error) or (safe and _may_go_on(error, probe=probe))):
                    raise
            else:
                if not is_failure(response, self.upstream.fails):
                    member.answered()
                    return response
                member.failed(f"answered {response.status}")
                if not safe or all(member.out for member in self.members if member not in tried):
                    return response
                client.let_go()
            finally:
                if probe:
                    member.probed()
            metrics.upstream_failed_over(self.upstream.name, monotonic() - began)
            if client.exchange.span is not None:
                client.exchange.span.failed_over(self.upstream.name, member.address, began)

    def choose(self, tried: list[Member], *, may_probe: bool) -> tuple[Member, bool]:
        """Whom to ask next, and whether as a probe."""
        member, probe = chosen(self.members, tried, self._last, monotonic(), may_probe=may_probe)
        if probe:
            member.next_probe = inf  # one at a time: whoever sends it says when the next is due
        else:
            self._last = member
        return member, probe

    def _client_of(self, member: Member) -> UpstreamClient:
        return self.clients[self.members.index(member)]

    def _probe_of(self, outgoing: UpstreamRequest) -> UpstreamRequest:
        within = outgoing.within
        if within is None or within.seconds > self._probe_within.seconds:
            within = self._probe_within
        return UpstreamRequest(outgoing.head, outgoing.body, outgoing.more, within, outgoing.idle, outgoing.most)

    @property
    def connections(self) -> int:
        return sum(client.connections for client in self.clients)

    def in_use(self) -> int:
        return sum(client.in_use() for client in self.clients)

    def drain(self) -> None:
        for client in self.clients:
            client.drain()
        for member in self.members:
            member.remove()

    async def close(self) -> None:
        await asyncio.gather(*[client.close() for client in self.clients])


def nothing_was_sent(error: http1.UpstreamError) -> bool:
    """So that the request may go to another member, whatever it is."""
    return isinstance(error, (http1.ConnectFailed, http1.ConnectTimeout, http1.AddressRefused))


def _may_go_on(error: http1.UpstreamError, *, probe: bool) -> bool:
    """Of a request that is safe to repeat. One that a member took its whole time for would take it of the next, too."""
    if isinstance(error, http1.UpstreamReset):
        return not error.response_started
    return probe and isinstance(error, http1.HeadTimeout)
