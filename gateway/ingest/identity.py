"""By what a repeat of a webhook is known.

    the sender's own id     in the header that its preset names             recognised for `relay.dedupe`
    Idempotency-Key         as any client may send it                       the same
    what the body names     the existing workers' message ids               the same
    the signature           where it covers a time: the same bytes, signed  as long as that time is good
                            in the same second
    nothing                 it is never taken for a repeat

The first that a webhook has counts. Each is scoped by its endpoints and its session: two sessions with the same id are
two events. The same id or key with another body is refused: one of the two would be lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from gateway.request import Head, Json, json_if_any
from sluice.http.senders import Sender
from sluice.http.signatures import Proof

REPEATED_SOON: Final = 60.0
"""Seconds in which the gateway itself may give the store an event again, whose answer it has not heard."""
_SENDERS_ID: Final = re.compile(rb"[!-+\--~]{1,255}")
"""As it can be sent on, among others between commas."""


class Webhook:
    """A request that is to be stored. Never changed."""

    __slots__ = (*("body", "endpoints", "event", "head", "json", "proven", "sender", "session"),)

    def __init__(
        self,
        endpoints: Sequence[str],
        head: Head,
        body: bytes,
        json: Json | None,
        event: str,
        session: str | None,
        sender: Sender,
        proven: tuple[Proof, bytes] | None,
    ) -> None:
        self.endpoints = endpoints
        self.head = head
        self.body = body
        self.json = json
        """The body, where something had to be found in it already."""
        self.event = event
        self.session = session
        self.sender = sender
        self.proven = proven
        """By which proof, and the first part of its claim."""


class Identity:
    """What an event is known by. Never changed."""

    __slots__ = ("digest", "key", "senders_id", "window")

    def __init__(self, key: str | None, window: float, senders_id: str = "", digest: str = "") -> None:
        self.key = key
        """Repeats have the same; None: it has none."""
        self.window = window
        """Seconds in which a repeat is recognised."""
        self.senders_id = senders_id
        """What its sender calls it, for the receiver; or empty."""
        self.digest = digest
        """Of what must be the same in a repeat; empty: nothing must."""


def identity_of(webhook: Webhook, dedupe: float) -> Identity:
    """`dedupe`: seconds."""
    sender, head = webhook.sender, webhook.head
    scope = f"{' '.join(webhook.endpoints)}\0{webhook.session}\0"
    given = head.value(sender.id_header) if sender.id_header else None
    if given is not None and _SENDERS_ID.fullmatch(given):
        own_id = given.decode()
        return Identity(f"{scope}id\0{own_id}", dedupe, own_id, digest_of(webhook.body))
    key = head.value(b"idempotency-key")
    if key:
        return Identity(f"{scope}key\0{key.decode('latin-1')}", dedupe, digest=digest_of(webhook.body))
    pointers = sender.ids.get(webhook.event)
    named = _named(pointers, webhook) if pointers is not None else None
    if named is not None:
        return Identity(f"{scope}{webhook.event}\0{named}", dedupe)
    if webhook.proven is not None:
        proof, signature = webhook.proven
        if proof.repeats_within:
            return Identity(f"{scope}signature\0{signature.decode('latin-1')}", proof.repeats_within)
    return Identity(None, REPEATED_SOON)


def digest_of(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()


def _named(pointers: Sequence[str], webhook: Webhook) -> str | None:
    """The values that the pointers lead to, where the first of them leads to one."""
    json = webhook.json if webhook.json is not None else json_if_any(webhook.body)
    if json is None:
        return None
    values = [json.at(pointer) for pointer in pointers]
    if not isinstance(values[0], (str, int)) or values[0] == "":
        return None
    return "\0".join([str(value) if isinstance(value, (str, int)) else "" for value in values])
