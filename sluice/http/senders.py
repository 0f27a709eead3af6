"""What the senders of webhooks do with an answer, by the preset that they sign with: the one place that says so.

blazz        the existing workers (webhookNotifier.js). They wait 10 s; what was refused a connection or timed out is
             sent again after 2, 4 and 8 s, what is answered 429 after 1, 2 and 4 s, whatever Retry-After says.
             Anything else, a 5xx or a reset among it, is never sent again
waha         sends again after any answer but a 2xx, and honours Retry-After (WebhookSender.ts)
standard     sends again after any answer but a 2xx, for days (standardwebhooks.com, 1.0.0)
body-sha256  Meta, gowa, waxum and OpenWA send again after a 5xx
dotted, key  many senders, some of which never send anything twice: held as long as for `blazz`

It also says by what a repeat is known: by an id in a header, or, of the existing workers, which send none and sign each
repeat anew, by what stands in the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sluice.config import Signature
from sluice.config.common import Preset
from sluice.http.problem import Refusal

REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
"""The problem type of a 429 that no limit of the sender's has caused (draft-ietf-httpapi-ratelimit-headers)."""


@dataclass(frozen=True, slots=True)
class Sender:
    hold: float = 3.0
    """Seconds that a request which cannot be taken now is held, in the hope that it soon can."""
    status: int = 503
    """How it is refused then: with what the sender repeats."""
    waits_for_room: bool = False
    """It is held for a full backlog, too, which takes longer than a restart of the store: else it may be lost."""
    id_header: bytes = b""
    """Where the sender's own id of an event stands, the same in each repeat; in lower case. Empty: it gives none."""
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By event type: the JSON pointers whose values together, with the session, name an event. The first must lead to
    something; an event without it has no id."""

    def refusal(self, detail: str, retry_after: bytes) -> Refusal:
        """Of a request that could be taken at another time. `retry_after`: whole seconds."""
        if self.status != 429:
            return Refusal(self.status, detail, retry_after=retry_after)
        title = "Temporarily reduced capacity"
        return Refusal(429, detail, retry_after=retry_after, type=REDUCED_CAPACITY, title=title)


_MESSAGE = ("/data/message/id",)
_RECEIPT = ("/data/message_id", "/data/status", "/data/recipient")
_OF_EXISTING_WORKERS = {
    "message_received": _MESSAGE,
    "message_sent": _MESSAGE,
    "message_status_updated": _RECEIPT,
    "message_delivered": _RECEIPT,
    "message_read": _RECEIPT,
}
_BESIDE_SIGNATURE = {
    "x-hub-signature-256": b"x-github-delivery",
    "x-openwa-signature": b"x-openwa-idempotency-key",
}
"""Of preset `body-sha256`: the id header of those who sign in this one. Meta sends none."""
ID_HEADERS = frozenset({b"x-webhook-request-id", b"webhook-id", *_BESIDE_SIGNATURE.values()})
"""All of them: what an event is called is no secret, and goes with it to every receiver."""
USUAL = Sender()
"""Whoever knows HTTP: publishers, and requests that no signature is asked of."""
_PATIENT = 12.0  # over the 10 s of the existing workers, so that they time out and repeat what is not stored by then
SENDERS: dict[Preset, Sender] = {
    "blazz": Sender(_PATIENT, 429, waits_for_room=True, ids=_OF_EXISTING_WORKERS),
    "waha": Sender(id_header=b"x-webhook-request-id"),
    "standard": Sender(id_header=b"webhook-id"),
    "body-sha256": USUAL,
    "dotted": Sender(_PATIENT, waits_for_room=True),
    "key": Sender(_PATIENT, waits_for_room=True),
}


def sender_of(signature: Signature) -> Sender:
    """Who signs so."""
    sender = SENDERS[signature.preset]
    if signature.preset != "body-sha256":
        return sender
    return replace(sender, id_header=_BESIDE_SIGNATURE.get(signature.header.lower() or "x-hub-signature-256", b""))
