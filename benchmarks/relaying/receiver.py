"""The receiver: answers POSTs as cheaply as Python can, counts them, and tells what it saw.

    POST /ok...     200        POST /hang...  never answered
    POST of a session from 10000 on: 500, so that its first event stays where it is
    GET /reset      forgets all;  GET /counts  what it saw since, as JSON

Prints its port when it listens, and ends with its standard input.

It shares a core with the store, so what it costs is missing there. That is why there is no asyncio here: one epoll and
one buffer, and of an event whose request came whole, as nearly all do, its fields are kept as bytes. What they mean is
worked out when somebody asks. More than half of what is left is the kernel's, for receiving and sending: nginx in its
place costs no less.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from array import array
from contextlib import suppress
from dataclasses import asdict, dataclass

from relaying.body import FIELDS, FIELDS_AT, NOT_TIMED, SIZE

STUCK = 10_000
"""Sessions from this number on are never served."""
_SERVED = ord("0")  # the first of the five digits of all others
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_FAILS = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
_TO_OK = b"POST /ok"
_USUAL_LENGTH = b"ength: %d\r\n" % SIZE  # however the rest is spelled
_HEAD_OVER = b"\r\n\r\n"
_FIELDS_AFTER = len(_HEAD_OVER) + FIELDS_AT
_SIZE_AFTER = SIZE - FIELDS_AT
_FIELDS_SIZE = FIELDS.size
_BUFFER = 1 << 16
_AT_ONCE = 64  # connections in a turn
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Counts:
    at: float
    """By this machine's monotonic clock."""
    received: int
    failed: int
    hung: int
    out_of_order: int
    repeated: int
    p50: float
    p99: float
    """Milliseconds since the event was sent, of those that were received."""


class Tally:
    """What has come since the last reset."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.kept = bytearray()
        """The fields of events that were received and are not evaluated yet, one behind the other."""
        self.arrived = array("d")
        """Unix seconds at which each of them came."""
        self.failed = self.hung = 0
        self._received = self._out_of_order = self._repeated = 0
        self._latest: dict[bytes, bytes] = {}
        self._latencies: list[float] = []

    def counts(self) -> Counts:
        at = time.monotonic()
        self._work_out()
        self._latencies.sort()
        return Counts(
            *(at, self._received, self.failed, self.hung, self._out_of_order, self._repeated),
            *(_at(self._latencies, 0.5), _at(self._latencies, 0.99)),
        )

    def _work_out(self) -> None:
        latest = self._latest
        for (session, sequence, sent), arrived in zip(FIELDS.iter_unpack(self.kept), self.arrived, strict=True):
            before = latest.get(session, b"")
            if sequence > before:
                latest[session] = sequence
            elif sequence == before:
                self._repeated += 1
            else:
                self._out_of_order += 1
            if sent != NOT_TIMED:
                self._latencies.append(arrived - float(sent))
        self._received += len(self.arrived)
        self.kept.clear()
        del self.arrived[:]


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


class _Connection:
    __slots__ = ("held", "receive_into", "send", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self.socket = accepted
        self.receive_into = accepted.recv_into
        self.send = accepted.send
        self.held = b""
        """The beginning of a request whose rest has not come."""


class Receiver:
    def __init__(self) -> None:
        self._tally = Tally()
        self._buffer = bytearray(_BUFFER)
        self._connections: dict[int, _Connection] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # those it accepts have it from here
        self.port: int = self._listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)

    def run_until(self, over: int) -> None:
        """Until that file descriptor is readable."""
        self._epoll.register(over, select.EPOLLIN)
        buffer, connections, receive = self._buffer, self._connections, self._receive
        while True:
            ready = self._epoll.poll(-1, _AT_ONCE)
            now = time.time()
            for fd, _ in ready:
                if fd in connections:
                    receive(connections[fd], buffer, now)
                elif fd == over:
                    return
                else:
                    self._accept()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        self._connections[accepted.fileno()] = _Connection(accepted)
        self._epoll.register(accepted, select.EPOLLIN)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _receive(self, connection: _Connection, buffer: bytearray, now: float) -> None:
        try:
            size = connection.receive_into(buffer)
            start = buffer.find(_HEAD_OVER, 0, size) + _FIELDS_AFTER
            if (
                size - start == _SIZE_AFTER
                and buffer[start] == _SERVED
                and buffer.find(_USUAL_LENGTH, 0, start) > 0
                and buffer.startswith(_TO_OK)
                and not connection.held
            ):
                tally = self._tally
                tally.kept += buffer[start : start + _FIELDS_SIZE]
                tally.arrived.append(now)
                connection.send(_OK)
            else:
                self._receive_any(connection, buffer[:size], now)
        except (OSError, ValueError):
            self._drop(connection)

    def _receive_any(self, connection: _Connection, data: bytes, now: float) -> None:
        """Pieces, several requests at once, all that is not an event of the usual size for `/ok`, and the end."""
        if not data:
            raise ConnectionResetError
        data = connection.held + data
        while (end := data.find(_HEAD_OVER) + 4) > 3:
            whole = end + _length(data[:end])
            if len(data) < whole:
                break
            if data.startswith(b"GET "):
                self._tell(connection, data)
            else:
                self._answer(connection, data[:end], data[end:whole], now)
            data = data[whole:]
        connection.held = data

    def _answer(self, connection: _Connection, head: bytes, content: bytes, now: float) -> None:
        tally = self._tally
        fields = content[FIELDS_AT : FIELDS_AT + FIELDS.size]
        if len(fields) < FIELDS.size:
            raise ValueError("not an event of this benchmark")
        if head.startswith(b"POST /hang"):
            tally.hung += 1
        elif fields[0] != _SERVED:
            tally.failed += 1
            connection.send(_FAILS)
        else:
            tally.kept += fields
            tally.arrived.append(now)
            connection.send(_OK)

    def _tell(self, connection: _Connection, data: bytes) -> None:
        if data.startswith(b"GET /reset"):
            self._tally.forget()
        counts = json.dumps(asdict(self._tally.counts())).encode()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(counts), counts))


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:") + 17
    return int(lower[at : lower.find(b"\r\n", at)]) if at > 16 else 0


def main() -> None:
    receiver = Receiver()
    print(receiver.port, flush=True)
    with suppress(KeyboardInterrupt):
        receiver.run_until(sys.stdin.fileno())


if __name__ == "__main__":
    main()
