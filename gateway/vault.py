"""The vault's API of a gateway. The libraries by which a vault works are loaded only where the policies have one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.policies import Policies
from sessions.profiles import calls
from sessions.profiles.calls import NO_VAULT, Access
from sessions.profiles.prepared import PreparedZips
from sessions.profiles.transfers import Transfers
from sluice.http.signed_json import problem
from sluice.store.client import Store

_STORE_TIMEOUT = 10.0
"""Seconds; a chunk has up to 2 MiB."""


class GatewayVault:
    """What no edit of the policies replaces: what is under way, and a connection to the store, as chunks on that of
    others would keep them waiting."""

    def __init__(self, store_url: str, data: Path) -> None:
        self._store = Store(store_url, timeout=_STORE_TIMEOUT)
        self._transfers = Transfers(data)
        self._prepared = PreparedZips()

    async def sweep(self) -> None:
        """Removes what former processes have left."""
        await asyncio.to_thread(self._transfers.sweep)

    def routes(self, policies: Policies) -> list[BaseRoute]:
        policy = policies.sessions.vault
        if policy is None:
            return [Route(calls.PATH, _no_vault, methods=calls.METHODS)]
        from sessions.profiles import api, troubles
        from sessions.profiles.opening import open_vault

        access = Access(policies.signatures[policy.verify] if policy.verify else None)
        vault = open_vault(policy, self._store)
        note = partial(troubles.note, self._store)
        served = api.VaultApi(vault, self._transfers, self._prepared, access, note, policies.clients.body)
        return [*api.routes(served)]

    def erase_by(self, policies: Policies) -> Callable[[str], Awaitable[None]] | None:
        """What takes a session's profile out of the vault, for good; None: there is no vault."""
        if policies.sessions.vault is None:
            return None
        from sessions.profiles.opening import open_vault

        return open_vault(policies.sessions.vault, self._store).erase

    async def close(self) -> None:
        self._prepared.close()
        await asyncio.to_thread(self._transfers.close)
        await self._store.close()


async def _no_vault(request: Request) -> Response:
    return problem(request, NO_VAULT)
