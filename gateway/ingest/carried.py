"""The headers that go with an event: those of a webhook, and those that a publisher names. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.policies import Policies
from gateway.problems import Refusal
from gateway.request import Head
from relay.deliver.sender import ATTEMPT, BATCH_IDS, EVENT_ID, OF_CONTENT
from relay.filters import takes
from relay.queue.codec import Headers
from sluice.config import headers as sound
from sluice.config.problems import Malformed, quoted
from sluice.http import trace
from sluice.http.fields import TRACESTATE
from sluice.http.senders import ID_HEADERS, Sender
from sluice.http.signatures import AGEING, proof_of
from sluice.http.signed_json import wrong
from sluice.http.via import KEY as VIA

INSTANCE_URL: Final = b"x-instance-url"
"""By it Laravel remembers which worker it is to call for a session."""
MAX_PUBLISHED: Final = 16
"""Headers of one published event."""
_OUR_ID: Final = EVENT_ID.lower()
_MADE_ANEW: Final = AGEING | {b"host", b"content-length", _OUR_ID, ATTEMPT.lower(), BATCH_IDS.lower()}
_NOT_TO_GIVE = ("content-type", "forwarded", "x-real-ip")
_PREFIXES_NOT_TO_GIVE = ("x-forwarded-", "x-sluice-")


class Carried:
    """Of what a webhook brings there goes on with it what says how its content is to be read, by which trace it
    is found, and what an endpoint of its route names (`forward`). The rest is not even stored: it may be a credential.

    The headers of every signature of the policies stay here, also where they are named: whoever proves himself to us by
    a key must not find that we have sent it on.
    """

    def __init__(self, policies: Policies) -> None:
        self._endpoints = policies.relay.endpoints
        self._made_anew = _MADE_ANEW.union(*[proof_of(each).names for each in policies.signatures.values()])
        self._replaced = replaced_values(policies)
        self._kept: dict[tuple[str, ...], frozenset[bytes]] = {}

    def of(self, head: Head, endpoints: Sequence[str], sender: Sender) -> Headers:
        """Names and values as they came, and what the next one may believe about the client."""
        kept, replaced, id_header = self._kept_for(tuple(endpoints)), self._replaced, sender.id_header
        return tuple(
            [
                (field.name, replaced.get(field.key, field.value))
                for field in head.forwarded()
                if (field.key in kept or (field.key == id_header and id_header != _OUR_ID))
                and (field.kind != TRACESTATE or len(field.value) <= trace.MAX_KEPT)
            ]
        )

    def _kept_for(self, endpoints: tuple[str, ...]) -> frozenset[bytes]:
        """The sender's own id is kept beside these; in a header called as ours, it is told instead."""
        kept = self._kept.get(endpoints)
        if kept is None:
            named = [name for each in endpoints for name in self._endpoints[each].forward]
            kept = self._kept[endpoints] = (
                OF_CONTENT.union((VIA, *trace.NAMES), [name.lower().encode() for name in named]) - self._made_anew
            )
        return kept


def replaced_values(policies: Policies) -> Mapping[bytes, bytes]:
    """By name in lower case: what goes with an event in place of the value that its sender wrote.

    With `sessions.advertise` Laravel stores that in place of a worker's own address, and so stays on Sluice.
    """
    advertised = policies.sessions.advertise
    return {} if advertised is None else {INSTANCE_URL: advertised.encode()}


def published_headers(given: object, at: str, policies: Policies, event_type: str) -> Headers:
    """Of an event's `headers`: names and texts. `at`: where the event stands, for the message. Raises Refusal 400, also
    for one that none of the event's endpoints would get."""
    place = f"{at}headers"
    if not isinstance(given, dict):
        wrong(place, 'an object such as {"X-Instance-Url": "http://10.0.0.5:3000"}', given)
    if len(given) > MAX_PUBLISHED:
        raise Refusal(400, f"{place}: has {len(given)} headers, it may have {MAX_PUBLISHED}")
    pairs = [_published(f"{place}.{name[:64]}", name, value) for name, value in given.items()]
    endpoints = [each for each in policies.relay.receivers.values() if takes(each.events, event_type)]
    forwarded = OF_CONTENT.union(
        ID_HEADERS, trace.NAMES, *[(name.lower().encode() for name in each.forward) for each in endpoints]
    )
    for name, _ in pairs:
        if endpoints and name.lower() not in forwarded:
            cure = "name it in forward: of one (relay.endpoints)"
            raise Refusal(400, f"{place}.{name.decode()}: no endpoint that takes this event gets this header; {cure}")
    replaced = replaced_values(policies)
    return tuple([(name, replaced.get(name.lower(), value)) for name, value in pairs])


def _published(place: str, name: str, value: object) -> tuple[bytes, bytes]:
    try:
        sound.own_name(name)
    except Malformed as malformed:
        raise Refusal(400, f"{place}: {malformed.message}; {malformed.hint}") from None
    lower = sound.taken_for(name)
    if lower in _NOT_TO_GIVE or lower.startswith(_PREFIXES_NOT_TO_GIVE) or lower.encode() in AGEING:
        raise Refusal(400, f"{place}: {quoted(name)} is written by Sluice alone; use another header")
    if not isinstance(value, str):
        wrong(place, "a string", value)
    if lower == "traceparent" and not trace.is_sound(value.encode()):
        raise Refusal(400, f"{place}: is no traceparent of W3C Trace Context, {trace.EXAMPLE}")
    if not sound.VALUE.fullmatch(value.encode()) or value != value.strip():
        raise Refusal(400, f"{place}: {sound.NOT_A_VALUE}, or begins or ends with a blank; {sound.CURE}")
    return name.encode(), value.encode()
