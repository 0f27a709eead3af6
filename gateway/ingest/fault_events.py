"""Laravel is told when a session is not well, and when that is over, by events that it does not know and other
receivers may: `session_unhealthy` and `session_recovered`.

Each stays in the store until its event is there, too; the event's id is made of it, so whoever tells it twice tells it
once.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from gateway.ingest.endings import made, workspace_of
from gateway.ingest.webhooks import Ingest
from gateway.policies import Policies
from gateway.problems import Refusal
from relay.queue.codec import Event, new_id
from sessions.registry import Registry
from sessions.signs import Telling
from sluice.store.client import StoreAway, StoreRefused

EVERY = 2.0
"""Seconds between two looks."""
UNHEALTHY, RECOVERED = "session_unhealthy", "session_recovered"


class FaultEvents:
    """`run_once` costs a round trip while there is nothing to tell."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._given: list[Telling] = []

    async def run_once(self, policies: Policies, ingest: Ingest) -> None:
        """In their order. Where it ends early it goes on the next time."""
        try:
            tellings = await self._registry.untold(self._given)
            self._given = []
            for telling in tellings:
                await ingest.publish(_event(telling, policies))
                self._given.append(telling)
            if self._given:
                await self._registry.untold(self._given, 0)
                self._given = []
        except (StoreAway, StoreRefused, Refusal):
            return


def _event(telling: Telling, policies: Policies) -> Event:
    name = UNHEALTHY if telling.over is None else RECOVERED
    data = {
        "workspace_id": workspace_of(telling.workspace),
        "session_id": telling.session,
        "status": telling.state,
        "kind": telling.kind,
        "reason": telling.reason,
        "since": _moment(telling.since),
    }
    if telling.over is not None:
        data |= {"over": _moment(telling.over), "lasted_s": round(telling.over - telling.noted / 1000)}
    body = orjson.dumps({"event": name, "data": data})
    return made(policies, new_id(f"{name}\0{telling.session}\0{telling.noted}"), name, telling.session, body)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
