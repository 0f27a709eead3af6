"""The receiver: answers POSTs as cheaply as Python can, counts them, and tells what it saw.

    POST /ok...     200        POST /hang...  never answered
    POST of a session from 10000 on: 500, so that its first event stays where it is
    GET /reset      forgets all;  GET /seen  what it saw since, as JSON

Prints its port when it listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from array import array
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from relaying.body import read

STUCK = 10_000
"""Sessions from this number on are never served."""
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_FAILS = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Told:
    at: float
    """By this machine's monotonic clock."""
    taken: int
    failed: int
    hung: int
    out_of_order: int
    repeated: int
    p50: float
    p99: float
    """Milliseconds since the event was sent, of those that were taken."""


class _Seen:
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.taken = self.failed = self.hung = self.out_of_order = self.repeated = 0
        self.latest: dict[int, int] = defaultdict(lambda: -1)
        self.latencies = array("d")

    def take(self, session: int, sequence: int, at: float) -> None:
        self.taken += 1
        latest = self.latest[session]
        if sequence > latest:
            self.latest[session] = sequence
        elif sequence == latest:
            self.repeated += 1
        else:
            self.out_of_order += 1
        if at:
            self.latencies.append(time.time() - at)

    def told(self) -> Told:
        found = sorted(self.latencies)
        p50, p99 = (
            found[min(len(found) - 1, int(len(found) * share))] * 1000 if found else 0.0 for share in (0.5, 0.99)
        )
        return Told(
            *(time.monotonic(), self.taken, self.failed, self.hung, self.out_of_order, self.repeated),
            *(p50, p99),
        )


class _Connection(asyncio.Protocol):
    def __init__(self, seen: _Seen) -> None:
        self._seen = seen
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            if data.startswith(b"GET "):
                self._tell(data)
                data = data[end + 4 :]
                continue
            length = _length(data, end)
            if len(data) < end + 4 + length:
                break
            self._answer(data, end + 4)
            data = data[end + 4 + length :]
        self._held = data

    def _answer(self, data: bytes, start: int) -> None:
        seen = self._seen
        if data.startswith(b"POST /hang"):
            seen.hung += 1
            return
        session, sequence, at = read(data, start)
        if session >= STUCK:
            seen.failed += 1
            self._transport.write(_FAILS)
        else:
            seen.take(session, sequence, at)
            self._transport.write(_OK)

    def _tell(self, data: bytes) -> None:
        if data.startswith(b"GET /reset"):
            self._seen.forget()
        told = json.dumps(asdict(self._seen.told())).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


def _length(data: bytes, end: int) -> int:
    at = data.find(b"ontent-", 0, end)  # both spellings of Content-Length that come here, and Content-Type
    while at >= 0:
        if data[at + 7 : at + 14].lower() == b"length:":
            stop = data.find(b"\r\n", at)
            return int(data[at + 14 : stop])
        at = data.find(b"ontent-", at + 7, end)
    return 0


async def _main() -> None:
    loop = asyncio.get_running_loop()
    seen = _Seen()
    server = await loop.create_server(lambda: _Connection(seen), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    over = loop.create_future()
    loop.add_reader(sys.stdin.fileno(), lambda: over.done() or over.set_result(None))
    await over


if __name__ == "__main__":
    uvloop.run(_main())
