"""Laravel is told of sessions that were ended, by the event that it knows: it sets their rows disconnected.

A notice stays in the store until its event is there, too; the event's id is that of the notice, so whoever tells it
twice tells it once.
"""

from __future__ import annotations

import orjson

from gateway import metrics
from gateway.ingest.webhooks import Ingest, Post, as_event
from gateway.policies import Policies
from gateway.problems import Refusal
from relay.queue.codec import Event, new_id
from sessions.lifecycle.cleaning import Record
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
    """`run_once` costs a round trip while there is nothing to tell. `record` gets each of them, too."""

    def __init__(self, registry: Registry, record: Record) -> None:
        self._registry = registry
        self._record = record
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
                metrics.session_ended(notice.reason.partition(" ")[0])
                about = {"session": notice.session, "why": notice.reason, "by": notice.by}
                await self._record("end_session", about)
            if self._given:
                await self._registry.notices(self._given, 0)
                self._given = []
        except (StoreAway, StoreRefused, Refusal):
            return


def _event(notice: Notice, policies: Policies) -> Event:
    data = {
        "workspace_id": workspace_of(notice.workspace),
        "session_id": notice.session,
        "status": "disconnected",
        "reason": notice.reason,
    }
    body = orjson.dumps({"event": EVENT, "data": data})
    return made(policies, new_id(f"ended\0{notice.session}\0{notice.at}"), EVENT, notice.session, body)


def workspace_of(workspace: str) -> int | str | None:
    """As Laravel says it: a number."""
    if workspace.isascii() and workspace.isdigit() and len(workspace) < 16:
        return int(workspace)
    return workspace or None


def made(policies: Policies, event_id: str, event: str, session: str, body: bytes) -> Event:
    """An event of our own, as if a worker had sent it."""
    post = Post(PATH, _HEADERS, body)
    return as_event(policies.relay, event_id, event, session, post, None, window=policies.relay.dedupe)
