"""A send as it is stored, and the request that is made of it again."""

from __future__ import annotations

from dataclasses import replace

from gateway.client_ip import client_of
from gateway.plan import Plan, Planner
from gateway.policies import AddressList
from gateway.proxy.upstream import UpstreamRequest
from gateway.request import Head
from relay.queue.codec import Delivery, Event
from sluice.http.fields import Field, Fields
from sluice.http.request_id import id_of, line_for

KEY = b"idempotency-key"
"""A header of the caller's: the same of the same session is the same send."""
UNNAMED = "send"
"""The type of events whose route names none."""
_SENT_BY = b"Sluice-Sent-By"
"""The first field of each: what is known of its request beside its own fields."""
_NOBODY = AddressList(())


def event_of(send: str, plan: Plan, outgoing: UpstreamRequest, window: float, digest: str) -> Event:
    """`send`: its id; `window`: seconds in which that is recognised; `digest`: which a repeat has to have."""
    head = outgoing.head
    client, trusted = head.client, b"1" if head.client.trusted_peer else b"0"
    about = (client.text.encode(), trusted, head.scheme.encode(), head.listener.encode(), id_of(head.id_line).encode())
    return Event(
        id=send,
        type=plan.subject.event or UNNAMED,
        session=plan.subject.session,
        target=head.target,
        headers=((_SENT_BY, b" ".join(about)), *((field.name, field.value) for field in head.kept())),
        body=outgoing.body or b"",
        lane="normal",  # all of them, so that they keep their order
        dedupe_window=window,
        digest=digest,
    )


def is_keyed(delivery: Delivery) -> bool:
    """Whether its caller has given it a key."""
    return any(name.lower() == KEY for name, _ in delivery.headers)


def head_of(delivery: Delivery, planner: Planner) -> Head:
    """As its request came. Raises ValueError for what `event_of` has not made."""
    (name, about), *headers = delivery.headers
    text, trusted, scheme, listener, request_id = about.decode().split(" ")
    if name != _SENT_BY:
        raise ValueError("it is no send")
    fields = Fields([Field(*header) for header in headers])
    client = replace(client_of(text, fields, _NOBODY), trusted_peer=trusted == "1")
    return Head(
        "POST",
        delivery.target.partition(b"?")[0],
        delivery.target,
        fields,
        None,
        client,
        scheme,
        planner.via.after(fields),
        listener=listener,
        id_line=line_for(request_id.encode()),
    )
