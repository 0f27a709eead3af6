"""One connection to an upstream: the client side of a WebSocket, as the library speaks it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.messages import Assembler
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, Event
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from gateway.proxy.websocket import times
from gateway.proxy.websocket.end import INTERNAL_ERROR, End
from gateway.proxy.websocket.tasks import ending
from gateway.request import Pairs
from sluice.http.server import metrics
from sluice.http.websocket import Intake, WebSocketLimits, is_pong, let_go

_QUEUED, _QUEUED_BYTES = 16, 64 * 1024
"""Frames and their bytes that wait to be taken, beyond which no further one is looked at."""
_HEAD_END = b"\r\n\r\n"
_ENDS = {
    1008: End("upstream", INTERNAL_ERROR, "the upstream sent too many control frames"),
    1013: End("gateway", 1013, "too many large messages are held here right now"),
}
"""How the client is told why its upstream was cut off."""


class Handshake(ClientProtocol):
    """Asks with the client's own target and headers instead of those made from a URI."""

    def __init__(self, uri: WebSocketURI, pairs: Pairs, subprotocols: list[Subprotocol], most: int) -> None:
        super().__init__(uri, subprotocols=subprotocols or None, max_size=most)
        self._pairs = pairs

    def connect(self) -> Request:
        made = super().connect()
        headers = Headers()
        for name, value in self._pairs:
            headers[name.decode("ascii")] = value.decode("latin-1")
        for key, text in made.headers.raw_items():
            if key != "Host":
                headers[key] = text
        return Request(made.path, headers)


class Connection(ClientConnection):
    """Leaves as soon as there is nothing more to be said, where the library waits for the other side; and reads as
    `sluice.http.websocket` says, where the library goes through all that has come."""

    ended_by_us: End | None = None
    """Why it was aborted while both sides were content, or how the upstream broke a limit."""

    def __init__(self, protocol: ClientProtocol, limits: WebSocketLimits) -> None:
        super().__init__(
            protocol,
            ping_interval=times.PING_EVERY,
            ping_timeout=times.PING_WITHIN,
            close_timeout=times.CLOSED_WITHIN,
            max_queue=None,
        )
        self._limits = limits
        self._taken = False
        self._opcode = Opcode.TEXT  # of a message that comes in fragments
        self._message = bytearray()
        self._head_end = bytearray()  # the last bytes of the answer to the handshake, until its head has ended
        self._head_ended = False
        self._pong = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._intake = Intake(self.transport, self._limits, self._feed, self._ready, self._cut)
        self.recv_messages = _Messages(self._intake)

    def data_received(self, data: bytes) -> None:
        if not self._head_ended:
            data = self._read_head(data)
        if not data:
            return
        if self.protocol.state is CONNECTING:
            self._feed(data)  # the body of a refusal
        else:
            self._intake.data_received(data)

    def _read_head(self, data: bytes) -> bytes:
        """Hands on what belongs to the head of the answer; what is behind it comes back."""
        known = len(self._head_end)
        joined = bytes(self._head_end) + data
        end = joined.find(_HEAD_END) + len(_HEAD_END)
        self._head_ended = end >= len(_HEAD_END)
        if not self._head_ended:
            self._head_end[:] = joined[-3:]
            end = len(joined)
        self._feed(joined[known:end])
        return joined[end:]

    def _feed(self, piece: bytes) -> None:
        super().data_received(piece)
        if self.protocol.parser_exc is not None and self.protocol.close_sent is not None:
            metrics.websocket_cut("upstream", self.protocol.close_sent.code)
        if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
            self._intake.end()
            self.transport.close()
        elif self.protocol.handshake_exc is not None:
            self.transport.abort()

    def _ready(self) -> bool:
        return not self.recv_messages.paused

    def _cut(self, code: int, why: str) -> None:
        metrics.websocket_cut("upstream", code)
        self.ended_by_us = _ENDS[code]
        self.protocol.fail(code, why)
        self.send_data()
        self._intake.end()
        self.transport.close()

    def process_event(self, event: Event) -> None:
        """Fragments are joined as they come: the library keeps each of them, and takes 4,096 of a message at most."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._intake.arrived(len(event.data), whole=event.fin)
            if not event.fin or event.opcode is Opcode.CONT:
                if event.opcode is not Opcode.CONT:
                    self._opcode = event.opcode
                self._message += event.data
                if not event.fin:
                    return
                event, self._message = Frame(self._opcode, self._message), bytearray()
        super().process_event(event)

    async def next_message(self) -> str | bytes:
        """Who asks for the next one has passed on the one before."""
        if self._taken:
            self._taken = False
            self._intake.passed_on()
        message = await self.recv()
        self._taken = True
        return message

    def send_data(self) -> None:
        """While the upstream takes nothing, only the last of its pings is going to be answered (RFC 6455 section
        5.5.3)."""
        writes = self.protocol.writes
        if self.paused and any(map(is_pong, writes)):
            self._pong = next(write for write in reversed(writes) if is_pong(write))
            self.protocol.writes = [write for write in writes if not is_pong(write)]
        if self.transport.is_closing():
            self.protocol.data_to_send()
        else:
            super().send_data()

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        self.transport.write(pong)

    def eof_received(self) -> None:
        """The library learns of it when it has read what came before."""
        if self.protocol.state is CONNECTING:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.lost(partial(self._lost, exc))

    def _lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        let_go(self.protocol)

    async def close_with(self, code: int | None, reason: str) -> None:
        """The closing handshake, also without a code. Returns when the connection is closed, in 5 seconds at most."""

        async def say() -> None:
            async with self.send_context():
                self.protocol.send_close(code, reason)

        async def discard() -> None:
            while True:  # unread messages would stop the reading, and the answer is behind them
                await self.next_message()

        async with ending(discard()):
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(times.CLOSED_WITHIN):
                    await say()

    def abort(self) -> None:
        """Whatever state it is in, even before it was connected."""
        transport: asyncio.Transport | None = getattr(self, "transport", None)
        if transport is not None:
            self._intake.close()
            transport.abort()


class _Messages(Assembler):
    """Bounded in bytes, too, and a pause of the intake instead of the socket."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(_QUEUED, 0, pause=lambda: None, resume=intake.go_on)

    def maybe_pause(self) -> None:
        super().maybe_pause()
        if not self.paused and sum(len(frame.data) for frame in self.frames.queue) > _QUEUED_BYTES:
            self.paused = True
