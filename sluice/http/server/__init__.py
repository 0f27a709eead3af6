"""Our side of HTTP/1.1 towards clients, beneath uvicorn: strict, bounded and exact.

`head`      reads the head of a request, or says why not                pure
`exchange`  one request and its answer, as the gateway sees it
`cycle`     the same on our own server
`asgi`      the same on any other ASGI server
`protocol`  one connection: cuts the bytes into heads and bodies
"""

from sluice.http.server.asgi import AsgiExchange, head_of_scope, target_of
from sluice.http.server.cycle import Cycle
from sluice.http.server.exchange import Exchange
from sluice.http.server.head import RequestHead
from sluice.http.server.protocol import Direct, ServerProtocol
from sluice.http.server.recorded import RecordedExchange
from sluice.http.server.refused import Refused

__all__ = [
    "AsgiExchange",
    "Cycle",
    "Direct",
    "Exchange",
    "RecordedExchange",
    "Refused",
    "RequestHead",
    "ServerProtocol",
    "head_of_scope",
    "target_of",
]
