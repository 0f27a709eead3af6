"""Which headers of a handshake pass between the two sides: those that are end to end, but none of its own."""

from __future__ import annotations

from websockets.http11 import Response

from gateway.request import Head, Pairs
from sluice.http.fields import CONTENT_LENGTH, HOST
from sluice.http.request_id import NAME, id_of

HANDSHAKE = b"sec-websocket-"
_MADE_ANEW = HOST | CONTENT_LENGTH
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"))
_NOT_FOR_THE_CLIENT = _HOP_BY_HOP | {b"content-length", b"upgrade", NAME.lower()}


def for_upstream(head: Head) -> Pairs:
    """Host first, as received; then what is end to end, and ours."""
    fields = head.forwarded()
    host = [field for field in fields if field.kind == HOST]
    rest = [field for field in fields if not (field.kind & _MADE_ANEW or field.key.startswith(HANDSHAKE))]
    return [*[(field.name, field.value) for field in host + rest], (NAME, id_of(head.id_line).encode())]


def for_client(response: Response, handshake: bytes) -> Pairs:
    """The end-to-end headers of an answer, without those of the `handshake`."""
    pairs = pairs_of(response)
    listed = {
        token.strip().lower() for name, value in pairs if name.lower() == b"connection" for token in value.split(b",")
    }
    dropped = _NOT_FOR_THE_CLIENT | listed
    return [pair for pair in pairs if pair[0].lower() not in dropped and not pair[0].lower().startswith(handshake)]


def pairs_of(response: Response) -> Pairs:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.headers.raw_items()]
