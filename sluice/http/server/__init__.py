"""Our side of HTTP/1.1 towards clients, beneath uvicorn: strict, bounded and exact.

`head`      reads the head of a request, or says why not                pure
`cycle`     one request and its answer
`protocol`  one connection: cuts the bytes into heads and bodies
"""

from sluice.http.server.cycle import Cycle
from sluice.http.server.head import RequestHead
from sluice.http.server.protocol import Direct, ServerProtocol

__all__ = ["Cycle", "Direct", "RequestHead", "ServerProtocol"]
