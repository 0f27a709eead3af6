"""Workers that we do not run and that know nothing of us.

They are asked what they run, and the registry is told on their behalf. What is seen is the truth: such a worker can not
be told to start or stop anything, so nothing is ever moved onto it. A worker that does not answer is simply not
reported; its leases end by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from sessions.policies import ExistingWorker
from sessions.registry import Disputed, ObservedSession, Registry, Worker
from sluice.observe.log import Log
from sluice.process.loops import Stop, every
from sluice.store.client import StoreAway, StoreRefused

log = Log("sessions.existing")

_TIMEOUT = 2.0


class _NoAnswer(Exception):
    """The message says why."""


@dataclass(frozen=True, slots=True)
class WatchedWorker:
    """What was last seen of an existing worker. Moments are unix seconds."""

    worker: str
    url: str
    why: str | None
    """Why it did not answer; None: it did."""
    since: float
    """When it began to answer, or not to."""
    answered: bool
    """At least once since it is watched."""
    disputed: tuple[Disputed, ...] = ()
    """Its sessions that another worker holds."""


class ExistingWorkers:
    """Watches them. `capacity`: the most sessions that are placed on each of them."""

    def __init__(self, registry: Registry, workers: Sequence[ExistingWorker], capacity: int) -> None:
        self._registry = registry
        self._workers = {worker.name: worker for worker in workers}
        self._capacity = capacity
        self._http = httpx2.AsyncClient(trust_env=False, timeout=_TIMEOUT)
        self._seen: dict[str, WatchedWorker] = {}

    async def run(self, stop: Stop) -> None:
        """Looks three times a lease, until stopped."""
        try:
            await every(self._registry.lease / 3, stop, self.run_once)
        finally:
            await self._http.aclose()

    async def run_once(self) -> None:
        """Looks at all of them, once, side by side."""
        await asyncio.gather(*(self._look(name, worker) for name, worker in self._workers.items()))

    @property
    def seen(self) -> list[WatchedWorker]:
        """Those that were looked at."""
        return list(self._seen.values())

    async def _look(self, name: str, worker: ExistingWorker) -> None:
        try:
            sessions = await self._sessions_of(worker)
            as_member = Worker(name, "observed", worker.url.rstrip("/"), self._capacity)
            disputed = await self._registry.observe(as_member, sessions)
        except _NoAnswer as reason:
            self._failed(name, worker.url, str(reason))
        except (StoreAway, StoreRefused):
            return  # it answered, and nobody could be told
        else:
            self._answered(name, worker.url, disputed)

    async def _sessions_of(self, worker: ExistingWorker) -> dict[str, ObservedSession]:
        headers = {"X-API-Key": worker.key.reveal().decode()} if worker.key else {}
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._get(worker, "/health", headers)
                return sessions_in(await self._get(worker, "/api/sessions", headers))
        except TimeoutError:
            raise _NoAnswer(f"no answer within {_TIMEOUT:g}s") from None

    async def _get(self, worker: ExistingWorker, path: str, headers: Mapping[str, str]) -> bytes:
        try:
            response = await self._http.get(worker.url.rstrip("/") + path, headers=dict(headers))
        except httpx2.HTTPError as error:
            raise _NoAnswer(str(error) or type(error).__name__) from error
        if not response.is_success:
            raise _NoAnswer(f"GET {path} answered {response.status_code}")
        return response.content

    def _failed(self, name: str, url: str, why: str) -> None:
        before = self._seen.get(name)
        if before is None or before.why is None:
            log.warning("existing_worker.no_answer", worker=name, reason=why)
        since = before.since if before and before.why else time.time()
        self._seen[name] = WatchedWorker(name, url, why, since, before is not None and before.answered)

    def _answered(self, name: str, url: str, disputed: Sequence[Disputed]) -> None:
        before = self._seen.get(name)
        if before and before.why:
            log.info("existing_worker.answered_again", worker=name)
        for dispute in set(disputed) - set(before.disputed if before else ()):
            log.warning("session.claimed_twice", session=dispute.session, owner=dispute.owner, also_at=name)
        since = before.since if before and not before.why else time.time()
        self._seen[name] = WatchedWorker(name, url, None, since, True, tuple(disputed))


def sessions_in(body: bytes) -> dict[str, ObservedSession]:
    """What `GET /api/sessions` of an existing worker says: `{"sessions": […]}` or the bare list.

    One item that cannot be read makes the whole answer unusable: leaving it out would forget its session.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _NoAnswer(f"GET /api/sessions is not JSON: {error}") from error
    items = answer.get("sessions") if isinstance(answer, dict) else answer
    if not isinstance(items, list):
        raise _NoAnswer("GET /api/sessions has no list of sessions")
    return dict(_session(item) for item in items)


def _session(item: object) -> tuple[str, ObservedSession]:
    fields: Mapping[str, Any] = item if isinstance(item, dict) else {}
    session = _first(fields, "session_id", "sessionId", "id")
    if session is None:
        raise _NoAnswer("GET /api/sessions lists an item without session_id, sessionId or id")
    workspace = _first(fields, "workspace_id", "workspaceId")
    about = {} if workspace is None else {"workspace_id": workspace}
    return session, ObservedSession(
        _first(fields, "status") or "unknown", _first(fields, "phone_number", "phoneNumber"), about
    )


def _first(fields: Mapping[str, Any], *names: str) -> str | None:
    """The first of these that is there, as text; ids may be numbers."""
    found = (fields[name] for name in names if isinstance(fields.get(name), str | int) and fields[name] != "")
    return next((str(value) for value in found), None)
