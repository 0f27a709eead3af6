"""Steady requests: for each session what only its owner answers, and its status. Each goes to one gateway or another.

A client takes the next gateway where a connection is refused or cut before an answer began, as one behind a balancer
does; every request here is safe to repeat.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2

from tests.nemesis.fleet import KEY, Fleet

_TIMEOUT = 15.0
_EVERY = {"own": 0.6, "existing": 1.5}  # seconds between two requests of a session


class Clients:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._http = httpx2.AsyncClient(trust_env=False, timeout=_TIMEOUT)
        self._turn = itertools.count()
        self.unjudged: set[str] = set()
        """Existing workers whose own answers are bad just now, by order of a fault."""

    async def ask(self, method: str, path: str, **body: object) -> int:
        """The status; 0 where no gateway gave an answer."""
        first = next(self._turn) % len(self._fleet.gateways)
        for gateway in (*self._fleet.gateways[first:], *self._fleet.gateways[:first]):
            try:
                if method == "GET":
                    answer = await self._http.get(gateway + path, params={"api_key": KEY})
                else:
                    answer = await self._http.request(method, gateway + path, json={"api_key": KEY, **body})
                return answer.status_code
            except httpx2.TimeoutException:
                return 0
            except httpx2.HTTPError:
                continue
        return 0

    async def follow(self, session: str, *, own: bool, stop: asyncio.Event) -> None:
        """One session's requests, one after the other, until stopped."""
        worker = self._fleet.existing_of.get(session, "")
        every = _EVERY["own" if own else "existing"]
        while not stop.is_set():
            began = time.monotonic()
            status = await self.ask("GET", f"/api/sessions/{session}/metadata")
            self._fleet.history.note("answer", session=session, status=status, began=began)
            judged = worker not in self.unjudged
            status = await self.ask("GET", f"/api/sessions/{session}/status")
            if judged and worker not in self.unjudged:
                self._fleet.history.note("status", session=session, status=status)
            await asyncio.sleep(max(0.0, began + every - time.monotonic()))

    async def close(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def requesting(fleet: Fleet, own: Sequence[str]) -> AsyncIterator[Clients]:
    clients, stop = Clients(fleet), asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            for session in own:
                group.create_task(clients.follow(session, own=True, stop=stop))
            for session in fleet.accounts:
                group.create_task(clients.follow(session, own=False, stop=stop))
            try:
                yield clients
            finally:
                stop.set()
    finally:
        await clients.close()
