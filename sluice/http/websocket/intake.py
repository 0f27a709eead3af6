"""Reading of WebSockets, so that no connection delays the others and none keeps more than it may.

A connection hands its parser one frame at a time, while somebody takes the messages and the answers to its pings.
Connections that have more at hand take turns: all of them together have `TIME_SLICE` in each pass of the event loop.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Never

from sluice.http.websocket.frames import Frames
from sluice.http.websocket.limits import Allowance, WebSocketLimits
from sluice.http.websocket.memory import Held

TIME_SLICE = 0.0005
"""Seconds."""
MAX_HELD = 64 * 1024
"""Bytes that wait to be handed over; beyond it the socket is not read."""
_FRAMES_TOGETHER, _TOGETHER, _TOGETHER_INFLATED = 16, 4096, 128
"""So many short frames, and so many bytes of them, are handed over at once; compressed ones may become a thousand
times as long."""
_TOO_MANY = 1008, "more control frames than are taken here"
_STUCK = 1013, "too many large messages are held here right now"
_MAX_DROPPED = 4 * 2**20
"""Bytes that are read and dropped after the end, for whoever sends to get to the close frame."""


class Intake:
    """Of one connection. `feed` hands on a frame or a part of one, `ready` says whether it may, `cut` ends a connection
    that does not keep to its limits."""

    def __init__(
        self,
        transport: asyncio.Transport,
        limits: WebSocketLimits,
        feed: Callable[[bytes], None],
        ready: Callable[[], bool],
        cut: Callable[[int, str], None],
    ) -> None:
        self.frames = Frames()
        self.is_queued = False
        """It waits for its next turn."""
        self._transport = transport
        self._round_robin = _round_robin_of(asyncio.get_running_loop())
        self._allowance = Allowance(limits.control, time.monotonic())
        self._held = Held(limits.memory, self.go_on, lambda: cut(*_STUCK))
        self._sizes: deque[int] = deque()  # of messages that have come and were not passed on
        self._size = 0  # of the one that is coming
        self._feed = feed
        self._ready = ready
        self._cut = cut
        self._partial = 0  # bytes of a frame that is not whole
        self._ended = False
        self._dropped = 0
        self._read_paused = False
        self._when_drained: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._drop(data)
            return
        frames = self.frames
        if self._may_go_on() and frames.passes(data):
            self._hand_on([data])  # more of a frame whose beginning was handed on
            return
        frames.add(data)
        if not self.is_queued and self.step():
            self._round_robin.join(self)
        self._pace_reading()

    def arrived(self, size: int, *, whole: bool) -> None:
        """To be told of each frame of a message; `whole`: the message has come to its end."""
        self._held.add(size)
        self._size += size
        if whole:
            self._sizes.append(self._size)
            self._size = 0

    def passed_on(self) -> None:
        """To be told of each message that the other side has taken."""
        self._held.give_back(self._sizes.popleft())

    def close(self) -> None:
        """Nothing of it is kept any more, and nobody is called: else this and its connection hold on to each other."""
        self.end()
        self._held.close()
        self._feed = self._ready = self._cut = _nobody

    def go_on(self) -> None:
        """`ready` may say something else now."""
        if self.frames.held and not self.is_queued:
            self._round_robin.join(self)

    def lost(self, then: Callable[[], None]) -> None:
        """Nothing more comes. `then` is called when all that came has been handed over."""
        self._when_drained = then
        if not self.frames.held or self._ended:
            self._drained()
        else:
            self.go_on()

    def end(self) -> None:
        """Nothing more is handed over."""
        self._ended = True
        self.frames.drop()
        self._pace_reading()
        self._drained()

    def step(self) -> bool:
        """Hands over a frame, or a few short ones. True: there may be more."""
        if self._ended or not self._may_go_on():
            return False
        frames, most = self.frames, _TOGETHER_INFLATED if self.frames.inflates else _TOGETHER
        pieces: list[bytes] = []
        size = 0
        while piece := frames.next():
            if frames.carries_nothing and not self._allowance.take(time.monotonic()):
                self._hand_on(pieces)
                if not self._ended:
                    self._cut(*_TOO_MANY)
                return False
            pieces.append(piece)
            size += len(piece)
            if size > most or len(pieces) == _FRAMES_TOGETHER:
                break
        self._hand_on(pieces)
        self._pace_reading()
        if self._when_drained is not None and not (frames.held and pieces):
            self._drained()
        return frames.held > 0 and bool(pieces)

    def _may_go_on(self) -> bool:
        return self._ready() and self._held.may_go_on()

    def _hand_on(self, pieces: list[bytes]) -> None:
        if not pieces:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.frames.is_partial:  # until it is whole, the parser keeps it
            self._partial += len(data)
            self._held.add(len(data))
        elif self._partial:
            partial, self._partial = self._partial, 0
            self._held.give_back(partial)
        self._feed(data)

    def _drained(self) -> None:
        then, self._when_drained = self._when_drained, None
        if then is not None:
            then()

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        if self._dropped > _MAX_DROPPED:
            self._transport.abort()

    def _pace_reading(self) -> None:
        pause = self.frames.held > MAX_HELD
        if pause != self._read_paused and not self._transport.is_closing():
            self._read_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()


class RoundRobin:
    """Of all connections of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[Intake] = deque()
        self._scheduled = False

    def join(self, intake: Intake) -> None:
        intake.is_queued = True
        self._waiting.append(intake)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        until = time.perf_counter() + TIME_SLICE
        try:
            while self._waiting and time.perf_counter() < until:
                self._step(self._waiting.popleft())
        finally:  # whatever is wrong with one of them, the others go on
            self._scheduled = bool(self._waiting)
            if self._scheduled:
                self._call_soon(self._run)

    def _step(self, intake: Intake) -> None:
        more = False
        try:
            more = intake.step()
        finally:
            intake.is_queued = more
        if more:
            self._waiting.append(intake)


def _nobody(*_: object) -> Never:
    raise AssertionError("nothing comes after the end")


_round_robins: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, RoundRobin] = weakref.WeakKeyDictionary()


def _round_robin_of(loop: asyncio.AbstractEventLoop) -> RoundRobin:
    round_robin = _round_robins.get(loop)
    if round_robin is None:
        round_robin = _round_robins[loop] = RoundRobin(loop)
    return round_robin
