"""By which id a caller knows a message that its worker calls otherwise: owns `sl:{receipts:<nn>}:*`.

    202 with our id ──▶ the worker's answer has its own ──▶ noted here, before the send leaves the queue
                                                             └──▶ webhooks about the message are given ours

A worker emits `message_sent` before it answers. So while a send is under way at a worker that takes no ids, a webhook
whose message is not known waits a moment for that answer.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from gateway.ingest.identity import Webhook
from gateway.outbox.message_ids import MAX_BODY, POINTERS, id_in, renamed
from gateway.outbox.results import Promised, ended
from gateway.request import json_if_any
from gateway.workers.target import Target
from sluice.http import foreign_json
from sluice.http.fields import Field
from sluice.http.senders import Sender
from sluice.observe.log import Log
from sluice.observe.metrics import counts, recent
from sluice.store.client import Arg, Store, StoreAway, StoreRefused, load_script
from sluice.store.protocol.errors import Full
from sluice.store.shared_calls import SharedCalls

LOG: Final = Log("gateway")
HEADER: Final = b"X-Sluice-Message-Id"
KEY_PATTERNS = (
    "sl:{receipts:<nn>}:ids:<session>",
    "sl:{receipts:<nn>}:order:<session>",
    "sl:{receipts:<nn>}:under_way:<session>",
)
_SLOTS: Final = 16
"""Each slot has a clock of its own, which stays."""
KEPT_FOR: Final = 7 * 86400.0
"""Seconds after the last message of a session: a phone that was off tells then that it was read."""
MOST: Final = 5_000
"""Messages of one session: about a megabyte."""
HELD_FOR: Final = 2.0
"""Seconds that a webhook waits for the answer of its worker; its sender waits for ten."""
MAX_HELD: Final = 1024
"""Webhooks that wait so in one process."""
_UNDER_WAY_FOR: Final = 60.0
_LOOK_EVERY: Final = 0.1
_MAX_ID: Final = 512
_AT_ONCE, _WAITING = 64, 4096
_NOTE = load_script("gateway.outbox", "note_receipt")
_RECEIPTS = counts(
    "sluice_receipts_total",
    "Webhooks about a message that a caller knows by an id of ours, by what became of them.",
    ["what"],
)
recent(_RECEIPTS, "sluice_receipts_total", ["what"])
_Wanted = tuple[str, str]
"""Session, and what its worker calls the message."""
_Found = tuple[str | None, bool]
"""Our id, and whether a send of the session is under way."""


class MessageIds:
    """Of one process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held = 0
        self._looks: SharedCalls[_Wanted, _Found] = SharedCalls(self._look, size=_AT_ONCE, waiting=_WAITING)

    # --- of sends (`gateway.outbox.results.Receipts`)

    def run_of(self, target: Target) -> str:
        """Under one fence it is one process that has the session."""
        return str(target.fence) if target.takes_ids and target.fence is not None else ""

    def fields(self, _: Target, send: str) -> Sequence[Field]:
        return [Field(HEADER, send.encode())]

    async def begun(self, send: str, session: str, target: Target) -> None:
        """It is about to be given to this worker. Raises StoreAway or StoreRefused."""
        if not target.takes_ids:
            await self._store.commands(("SET", _keys(session)[2], send, "PX", int(_UNDER_WAY_FOR * 1000)))

    async def ended(self, send: str, session: str) -> None:
        """Its caller does not know it by our id, or no worker has taken it."""
        with contextlib.suppress(StoreAway, StoreRefused):
            await self._note(send, session, "")

    async def promised(self, send: Promised) -> None:
        """Raises StoreAway or StoreRefused."""
        its = _message_in(send.body)
        await self._note(send.id, send.session, "" if its is None or its == send.id else its)

    async def _note(self, send: str, session: str, its: str) -> None:
        arguments: list[Arg] = [send, its, MOST, int(KEPT_FOR * 1000)]
        await self._store.run(_NOTE, _keys(session), arguments)

    # --- of webhooks

    async def body_of(self, webhook: Webhook, since: float) -> bytes:
        """What is to be stored of it: with our id in place of the worker's, where its caller knows that.

        `since` (`time.monotonic`): when it came. Raises Refusal, as the sender repeats it: the store is away.
        """
        event, session, body = webhook.event, webhook.session, webhook.body
        if event not in POINTERS or session is None or len(body) > MAX_BODY:
            return body
        json = webhook.json if webhook.json is not None else json_if_any(body)
        its = id_in(event, json) if json is not None else None
        if its is None or len(its) > _MAX_ID:
            return body
        ours = await self._ours(session, its, webhook.sender, since)
        found = renamed(event, body, its, ours) if ours is not None else None
        if found is None:
            return body
        _RECEIPTS.add("renamed")
        return found

    async def _ours(self, session: str, its: str, sender: Sender, since: float) -> str | None:
        """Our id, as soon as no send of the session is under way, or it is known before; None: it has none here."""
        waits = False
        try:
            while True:
                found = await self._find(session, its)
                waited = time.monotonic() - since
                if found is None and waited >= sender.hold:
                    raise sender.refusal("the store does not answer; send it again", b"2")
                if found is not None:
                    ours, under_way = found
                    if ours is not None or not under_way:
                        return ours
                    if waited >= HELD_FOR or (not waits and self._held >= MAX_HELD):
                        _RECEIPTS.add("unsettled")
                        LOG.info("receipt.unsettled", session=session)
                        return None
                    if not waits:
                        waits = True
                        self._held += 1
                        _RECEIPTS.add("held")
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            self._held -= waits

    async def _find(self, session: str, its: str) -> _Found | None:
        """None: the store does not answer."""
        try:
            return await self._looks.ask((session, its))
        except (StoreAway, StoreRefused, Full):
            return None

    async def _look(self, wanted: Sequence[_Wanted]) -> list[_Found]:
        """First whether one is under way: when that has ended, its id is noted already."""
        commands: list[Sequence[Arg]] = []
        for session, its in wanted:
            ids, _, under_way = _keys(session)
            commands += [("GET", under_way), ("HGET", ids, its)]
        replies: list[Any] = await self._store.commands(*commands)
        found = [
            (ours.decode() if ours is not None else None, under_way is not None)
            for under_way, ours in zip(replies[::2], replies[1::2], strict=True)
        ]
        sends = {at: replies[2 * at].decode() for at, one in enumerate(found) if one == (None, True)}
        if sends:
            for (at, send), end in zip(sends.items(), await ended(self._store, [*sends.values()]), strict=True):
                if end is not None:  # its gateway was killed before it could note that here
                    promised, answer = end
                    found[at] = send if promised and _message_in(answer) == wanted[at][1] else None, False
        return found


def _message_in(answer: bytes) -> str | None:
    """What a worker calls the message that it has sent: to a send, or to a bulk-send of one recipient."""
    try:
        said = foreign_json.loads(answer)
    except ValueError:
        return None
    if isinstance(said, dict) and isinstance(said.get("results"), list) and len(said["results"]) == 1:
        said = said["results"][0]
    found = said.get("message_id") if isinstance(said, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= _MAX_ID else None


def _keys(session: str) -> tuple[str, str, str]:
    slot = f"sl:{{receipts:{binascii.crc_hqx(session.encode(), 0) % _SLOTS:02d}}}"
    return f"{slot}:ids:{session}", f"{slot}:order:{session}", f"{slot}:under_way:{session}"
