"""WebSockets to an upstream with several members: each to the one with the fewest requests and WebSockets."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

from gateway.policies import Upstream
from gateway.proxy.balancing import PROBE_WITHIN, BalancedUpstream, nothing_was_sent
from gateway.proxy.circuit import UpstreamCircuit
from gateway.proxy.members import Member
from gateway.proxy.tls import context_of
from gateway.proxy.websocket.client_side import ClientSide
from gateway.proxy.websocket.connection import Connection
from gateway.proxy.websocket.upstream import Denied, WebSocketUpstream
from sluice.http import client as http1


class BalancedWebSocket(WebSocketUpstream):
    """Where a member cannot be connected to, the next one is; what it has once been asked is not asked again."""

    def __init__(self, upstream: Upstream, circuit: UpstreamCircuit, balanced: BalancedUpstream) -> None:
        super().__init__(upstream, circuit)
        self._balanced = balanced
        self._places: dict[Member, tuple[http1.Origin, ssl.SSLContext | None]] = {
            member: (http1.Origin.of(member.address), context_of(replace(upstream, url=member.address)))
            for member in balanced.members
        }
        self._member_of: dict[Connection, Member] = {}

    async def _proxy(self, connection: Connection, client: ClientSide) -> None:
        try:
            await super()._proxy(connection, client)
        finally:
            self._leave(connection)

    async def _reach(self, connection: Connection) -> None:
        tried: list[Member] = []
        while True:
            member, probe = self._balanced.choose(tried, may_probe=True)
            tried.append(member)
            self._enter(connection, member)
            try:
                await self._connect(connection, *self._places[member])
                await self._ask(connection, PROBE_WITHIN if probe else self._upstream.headers)
            except http1.UpstreamError as error:
                member.failed(str(error))
                if not nothing_was_sent(error) or len(tried) == len(self._balanced.members):
                    raise
            except Denied as denied:
                if self._says_that_it_fails(denied):
                    member.failed(f"answered {denied.answer.status_code}")
                else:
                    member.answered()
                raise
            else:
                member.answered()
                return
            finally:
                if probe:
                    member.probed()

    async def _ask(self, connection: Connection, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self._shake_hands(connection)
        except TimeoutError:
            raise http1.HeadTimeout("no answer in time") from None

    def _enter(self, connection: Connection, member: Member) -> None:
        self._leave(connection)
        self._member_of[connection] = member
        member.websockets += 1

    def _leave(self, connection: Connection) -> None:
        member = self._member_of.pop(connection, None)
        if member is not None:
            member.websockets -= 1
