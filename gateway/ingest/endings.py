"""Laravel is told of sessions that were ended, by the event that it knows: it sets their rows disconnected.

A notice stays in the store until its event is there, too; the event's id is that of the notice, so whoever tells it
twice tells it once.
"""

from __future__ import annotations

import orjson

from gateway.ingest.webhooks import Ingest, Post, as_event
from gateway.policies import Policies
from gateway.problems import Refusal
from relay.queue.codec import Event, new_id
from sessions.records import Notice
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("gateway")
EVERY = 2.0
"""Seconds between two looks."""
EVENT = "session_disconnected"
PATH = b"/api/whatsapp/webhooks/webjs"
"""Where the contract has webhooks."""
_HEADERS = ((b"Content-Type", b"application/json"),)


class Endings:
    """`run_once` costs a round trip while there is nothing to tell."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._given: list[Notice] = []

    async def run_once(self, policies: Policies, ingest: Ingest) -> None:
        """Where it ends early it goes on the next time."""
        try:
            notices = await self._registry.notices(self._given)
            self._given = []
            for notice in notices:
                await ingest.publish(_event(notice, policies))
                self._given.append(notice)
                LOG.info("session.ended", session=notice.session, why=notice.reason)
            if self._given:
                await self._registry.notices(self._given, 0)
                self._given = []
        except (StoreAway, StoreRefused, Refusal):
            return


def _event(notice: Notice, policies: Policies) -> Event:
    workspace: int | str | None = notice.workspace or None
    if isinstance(workspace, str) and workspace.isascii() and workspace.isdigit() and len(workspace) < 16:
        workspace = int(workspace)
    data = {"workspace_id": workspace, "session_id": notice.session, "status": "disconnected", "reason": notice.reason}
    body = orjson.dumps({"event": EVENT, "data": data})
    return as_event(
        policies.relay,
        new_id(f"ended\0{notice.session}\0{notice.at}"),
        EVENT,
        notice.session,
        Post(PATH, _HEADERS, body),
        None,
        window=policies.relay.dedupe,
    )
