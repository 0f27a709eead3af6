"""An HTTP/1.1 client connection: what the reverse proxy and the webhook sender both stand on.

The rules, each with a test of its name in `tests/sluice/http/client/`:

1.  The caller's header pairs go out byte for byte, in their order, repeats kept. Nothing is added but the one framing
    field that was asked for. CR, LF and NUL are refused, and so is a second opinion about the length (RFC 9112 §6.1).
2.  A response must say its length in exactly one way. Content-Length beside Transfer-Encoding, repeated or invalid
    lengths, any coding but a single `chunked`, chunks in HTTP/1.0, over 256 fields or 64 KiB of head: `BadResponse`
    (RFC 9112 §6.3, §11.2).
3.  HEAD, 204 and 304 have no body, whatever their fields say (RFC 9110 §6.4.1). 1xx are skipped, 101 is refused.
4.  A body that is cut short is never a clean end (RFC 9112 §8). One that ends with the connection ends when it closes.
5.  A connection is used again only if the exchange ended to the byte: the request all sent, the response complete and
    willing to stay, nothing after it. A byte on an idle connection closes it (RFC 9112 §9).
6.  At most 128 KiB of body (and one read) wait unread; then the upstream waits. Writing waits for the upstream.
7.  Every wait has an end, and a wait that ends badly (late, cancelled) leaves no half-used connection: it is cut.
8.  A request is repeated at most once, on a fresh connection, and only if the reused one closed before the first byte
    of a response (RFC 9112 §9.3.1). `exchange` does that; a proxy decides by `connection.reused` and
    `error.response_started`.

A request takes this way; each arrow that fails ends in an `UpstreamError`, with the connection closed:

    pool.acquire ──> send_head ──> send_body* ──> end_body
                          └──────> response ──> chunk* ──> b"" ──> (back in the pool, by itself)

`with await pool.acquire() as connection:` cuts whatever is unfinished when the block is left.
"""

from sluice.http.client.connection import Connection as Connection
from sluice.http.client.deadlines import Deadlines as Deadlines
from sluice.http.client.exchange import ask as ask, exchange as exchange
from sluice.http.client.framing import (
    CHUNKED as CHUNKED,
    NO_BODY as NO_BODY,
    Framing as Framing,
    Headers as Headers,
    request_head as request_head,
    sized as sized,
    stated as stated,
)
from sluice.http.client.origin import Origin as Origin, base_path as base_path
from sluice.http.client.pool import Pool as Pool
from sluice.http.client.response import Response as Response
from sluice.http.errors import (
    AddressRefused as AddressRefused,
    BadBody as BadBody,
    BadField as BadField,
    BadHead as BadHead,
    BadResponse as BadResponse,
    BodyCut as BodyCut,
    ConnectFailed as ConnectFailed,
    ConnectTimeout as ConnectTimeout,
    HeadTimeout as HeadTimeout,
    IdleTimeout as IdleTimeout,
    PoolExhausted as PoolExhausted,
    TooLate as TooLate,
    UpstreamError as UpstreamError,
    UpstreamReset as UpstreamReset,
)
from sluice.http.fields import Field as Field, Fields as Fields, fields_of as fields_of, read_fields as read_fields
