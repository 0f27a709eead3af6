"""Our side of HTTP/1.1 towards clients, beneath uvicorn: strict, bounded and exact.

`head`      reads the head of a request, or says why not                pure
`cycle`     one request and its answer
`protocol`  one connection: cuts the bytes into heads and bodies
"""

from runtime.server.cycle import Cycle
from runtime.server.head import RequestHead
from runtime.server.protocol import Direct, ServerProtocol

__all__ = ["Cycle", "Direct", "RequestHead", "ServerProtocol"]
