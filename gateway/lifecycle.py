"""What a gateway does for the life of sessions, beside answering: one phone, cleaning, watching, scaling, telling."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from gateway.ingest.endings import Endings
from gateway.ingest.fault_events import FaultEvents
from gateway.ingest.webhooks import Ingest
from gateway.policies import Policies
from sessions.lifecycle import same_phone, yielding
from sessions.lifecycle.cleaning import Cleaner, Erase
from sessions.lifecycle.closing import Closing
from sessions.lifecycle.election import SCALER, WATCHER, Election
from sessions.lifecycle.restarting import Restarting
from sessions.lifecycle.scaler import Scaler
from sessions.lifecycle.traffic import Traffic
from sessions.lifecycle.watching import Watcher
from sessions.registry import Registry
from sluice.observe.audit_file import append, path_in
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("gateway")
_GATEWAY = "gateway"


class Lifecycle:
    """`name`: of this process; no two that run have the same. Each method is one run of a loop. What is done to a
    session has a line in the audit log, whoever decided it."""

    def __init__(self, registry: Registry, store: Store, name: str, policies: Policies, traffic: Traffic) -> None:
        self._registry = registry
        self._policies = policies
        self._traffic = traffic
        self._endings = Endings(registry, self._record)
        self._fault_events = FaultEvents(registry)
        self._cleaner = Cleaner(registry, Election(store, name), self._record)
        self._watcher = Watcher(registry, Election(store, name, WATCHER), traffic.is_sending, self._record)
        self._scaler = Scaler(registry, Election(store, name, SCALER))
        self.apply(policies)

    def apply(self, policies: Policies) -> None:
        """What an edit changes."""
        self._policies = policies
        self._registry.keep = policies.sessions.one_phone.keep

    async def tell(self, policies: Policies, ingest: Ingest) -> None:
        await self._endings.run_once(policies, ingest)
        await self._fault_events.run_once(policies, ingest)

    async def let_yield(self, policies: Policies) -> None:
        sessions, closing = policies.sessions, Closing(self._registry, policies.sessions.workers)
        one_phone = sessions.one_phone
        if one_phone.enforce and sessions.workers:
            await yielding.run_once(self._registry, closing)
        await same_phone.run_once(self._registry, closing, sessions.cleanup, one_phone.keep, enforce=one_phone.enforce)

    async def clean(self, policies: Policies, erase: Erase | None) -> None:
        sessions = policies.sessions
        if sessions.cleanup is not None:
            await self._cleaner.run_once(sessions.cleanup, Closing(self._registry, sessions.workers), erase)

    async def scale(self, policies: Policies) -> None:
        await self._scaler.run_once(policies.sessions.rebalance, policies.sessions.most)

    async def tell_traffic(self, policies: Policies) -> None:
        with contextlib.suppress(StoreAway, StoreRefused):  # it is kept, and told the next time
            await self._traffic.tell(self._registry, policies.sessions.watch.silent)

    async def watch(self, policies: Policies) -> None:
        sessions = policies.sessions
        await self._watcher.run_once(sessions.watch, Restarting(self._registry, sessions.workers))

    async def close(self) -> None:
        await self._watcher.close()

    async def _record(self, action: str, what: Mapping[str, object]) -> None:
        """As a person's change stands there (`sluice/console/audit.py`). What cannot be written is in the log."""
        who = what.get("by") or _GATEWAY
        about = {"at": datetime.now(UTC), "who": who, "from": socket.gethostname(), "through": _GATEWAY}
        request = {name: value for name, value in what.items() if name != "by"}
        line = orjson.dumps({**about, "action": action, "request": request, "result": {}}, option=orjson.OPT_UTC_Z)
        try:
            await asyncio.to_thread(append, path_in(self._policies.data), line + b"\n", self._policies.log)
        except OSError as error:
            LOG.warning("audit.not_written", reason=error.strerror or str(error), line=line.decode())
