"""What the senders of webhooks do with an answer, by the preset that they sign with: the one place that says so.

blazz        the existing workers (webhookNotifier.js). They wait 10 s; what was refused a connection or timed out is
             sent again after 2, 4 and 8 s, what is answered 429 after 1, 2 and 4 s, whatever Retry-After says.
             Anything else, a 5xx or a reset among it, is never sent again
waha         sends again after any answer but a 2xx, and honours Retry-After (WebhookSender.ts)
standard     sends again after any answer but a 2xx, for days (standardwebhooks.com, 1.0.0)
body-sha256  Meta, gowa, waxum and OpenWA send again after a 5xx
dotted, key  many senders, some of which never send anything twice: held as long as for `blazz`
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def refusal(self, detail: str, retry_after: bytes) -> Refusal:
        """Of a request that could be taken at another time. `retry_after`: whole seconds."""
        if self.status != 429:
            return Refusal(self.status, detail, retry_after=retry_after)
        title = "Temporarily reduced capacity"
        return Refusal(429, detail, retry_after=retry_after, type=REDUCED_CAPACITY, title=title)


USUAL = Sender()
"""Whoever knows HTTP: publishers, and requests that no signature is asked of."""
_PATIENT = 12.0  # over the 10 s of the existing workers, so that they time out and repeat what is not stored by then
SENDERS: dict[Preset, Sender] = {
    "blazz": Sender(_PATIENT, 429, waits_for_room=True),
    "waha": USUAL,
    "standard": USUAL,
    "body-sha256": USUAL,
    "dotted": Sender(_PATIENT, waits_for_room=True),
    "key": Sender(_PATIENT, waits_for_room=True),
}
