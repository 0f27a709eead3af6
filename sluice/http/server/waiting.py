"""What is waited for on a client's side, how long, and what becomes of one that takes longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluice.http.server import metrics
from sluice.http.server.cycle import Cycle
from sluice.http.server.deadline import Deadline
from sluice.http.server.sending import SendClock, reset_when_closed
from sluice.observe.log import Log

if TYPE_CHECKING:
    from sluice.http.server.bounds import ClientBounds
    from sluice.http.server.protocol import ServerProtocol

_LINGER: Final = 2.0
"""Seconds a client may go on sending after a refusal: closed at once, the kernel would reset it unread."""
_LOOK: Final = 1.0
"""Seconds between two looks whether a client has gone of whom nothing is read."""

LOG: Final = Log("gateway")


class ClientClock:
    """Of one connection. One thing at a time is waited for: the first byte, the rest of a head, more of a body, the
    next request. Beside that, and whenever bytes are left that the kernel does not take: that the client takes some."""

    def __init__(self, connection: ServerProtocol, bounds: ClientBounds) -> None:
        self._connection: ServerProtocol | None = connection  # until it is lost
        self._bounds = bounds
        self._lingering = False
        self._deadline = Deadline(connection.loop, self._late)
        self._sending: SendClock | None = None  # once it has taken less than was written

    def await_request(self, *, within: float = 0.0) -> None:
        """The next one, or the first. `within`: so many seconds, in place of what the policies say."""
        if not self._lingering and self._connection is not None:
            first = self._connection.cycle is None
            self._deadline.set(within or (self._bounds.first_byte if first else self._bounds.keep_alive))

    def await_head(self) -> None:
        self._deadline.set(self._bounds.head)

    def await_body(self) -> None:
        self._deadline.set(self._bounds.body)

    def await_nothing(self) -> None:
        """It is our turn."""
        self._deadline.clear()

    def watch_unread(self) -> None:
        """It is our turn, and nothing is read meanwhile: then nobody tells that the client has gone, either."""
        self._deadline.set(_LOOK)

    def linger(self) -> None:
        """All is said; what still comes is passed over, and then the connection is closed."""
        self._lingering = True
        self._deadline.set(_LINGER)

    def blocked(self) -> None:
        """The kernel takes no more."""
        connection = self._connection
        if connection is None:
            return
        if self._sending is None:
            self._sending = SendClock(connection.loop, connection.transport, self._bounds.send, self._cut)
        self._sending.start()

    def watch_written(self) -> None:
        """Some of an answer is written, and perhaps not taken yet."""
        connection = self._connection
        if connection is None or not connection.transport.get_write_buffer_size():
            return
        if self._sending is None or not self._sending.running:
            self.blocked()

    def unblocked(self) -> None:
        if self._sending is not None:
            self._sending.stop()

    def close(self) -> None:
        """The connection is lost, or another protocol's, and is let go of."""
        self._connection = None
        self._deadline.close()
        if self._sending is not None:
            self._sending.close()

    def _late(self) -> None:
        """What the client was to do next it has not done in time."""
        connection = self._connection
        if connection is None or connection.transport.is_closing():
            return
        cycle = connection.cycle
        if self._lingering:
            connection.transport.close()
        elif cycle is not None and not cycle.response_complete:
            self._look(connection, cycle)
        elif connection.stopping:
            connection.transport.close()
        elif connection.in_head:
            _refuse(connection, "head", f"the head took longer than {self._bounds.head:g} seconds (clients.head)")
        else:
            if cycle is None:
                why = f"no request came in {self._bounds.first_byte:g} seconds (clients.first_byte)"
                _tell(connection, "first_byte", why)
            connection.transport.close()

    def _look(self, connection: ServerProtocol, cycle: Cycle) -> None:
        """Only what somebody is there to take can be late."""
        left = connection.flow.reading_since + self._bounds.body - connection.loop.time()
        if connection.flow.read_paused:
            if cycle.has_hung_up():
                connection.transport.abort()
            else:
                self.watch_unread()
        elif not cycle.more_body:
            return
        elif cycle.waits_for_100_continue:
            self.await_body()
        elif left > 0:
            self._deadline.set(left)
        else:
            _refuse(connection, "body", f"no more of the body came for {self._bounds.body:g} seconds (clients.body)")

    def _cut(self) -> None:
        """The client takes nothing of what was written for it. Reset, as our kernel would keep it for minutes."""
        connection = self._connection
        if connection is None:
            return
        why = f"the client took nothing of its answer for {self._bounds.send:g} seconds (clients.send)"
        _tell(connection, "send", why)
        cycle = connection.cycle
        if cycle is not None:
            if cycle.response_complete:
                cycle.reset()
            else:
                cycle.why_gone = why
        reset_when_closed(connection.transport, True)
        connection.transport.abort()


def _refuse(connection: ServerProtocol, key: str, why: str) -> None:
    _tell(connection, key, why)
    connection.refuse(408, why)


def _tell(connection: ServerProtocol, key: str, why: str) -> None:
    metrics.cut(key)
    client = connection.client
    LOG.info("client.cut", why=why, client=client[0] if client else None)
