"""Our side of HTTP/1.1 towards clients, beneath uvicorn: strict, bounded and exact.

`head`      reads the head of a request, or says why not                pure
`exchange`  one request and its answer, as the gateway sees it
`cycle`     the same on our own server
`asgi`      the same on any other ASGI server
`protocol`  one connection: cuts the bytes into heads and bodies; `chunks` reads those that come so
`waiting`   what is waited for on a client's side, by `bounds`; `deadline` and `sending` are its clocks
"""

from sluice.http.server.asgi import AsgiExchange, head_of_scope, listener_of, target_of
from sluice.http.server.bounds import ClientBounds
from sluice.http.server.cycle import Cycle
from sluice.http.server.exchange import CLIENT_GONE, Exchange
from sluice.http.server.head import RequestHead
from sluice.http.server.protocol import Bounds, Direct, ServerProtocol
from sluice.http.server.recorded import RecordedExchange
from sluice.http.server.refused import Refused

__all__ = [
    "CLIENT_GONE",
    "AsgiExchange",
    "Bounds",
    "ClientBounds",
    "Cycle",
    "Direct",
    "Exchange",
    "RecordedExchange",
    "Refused",
    "RequestHead",
    "ServerProtocol",
    "head_of_scope",
    "listener_of",
    "target_of",
]
