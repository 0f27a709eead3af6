"""A receiver that takes its time: it answers 200 after so many seconds, and notes when each event was sent and done.

    python -m simulating.receiver 0.05

Prints its port when it listens; GET /times tells what it noted, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from relaying.body import FIELDS, FIELDS_AT

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: list[tuple[float, float]] = []

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET "):
                    content = json.dumps(self._times).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
                else:
                    await self._event(await reader.readexactly(_length(head)), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _event(self, content: bytes, writer: asyncio.StreamWriter) -> None:
        _, _, sent = FIELDS.unpack_from(content, FIELDS_AT)
        await asyncio.sleep(self._seconds)
        self._times.append((float(sent), time.time()))
        writer.write(_OK)


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.index(b"content-length:") + 15
    return int(lower[at : lower.index(b"\r\n", at)])


if __name__ == "__main__":
    asyncio.run(Receiver(float(sys.argv[1])).serve())
