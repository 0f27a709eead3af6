"""A request and its answer, whoever speaks HTTP with the client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sluice.http.server.head import RequestHead
from sluice.observe.tracing import Span

CLIENT_GONE: Final = 499
"""nginx's number for a client that left before its answer began; never sent, only counted and logged."""
LISTENER: Final = "sluice.listener"
"""In the state of an ASGI scope: the name of the listener that the connection came to."""
LOCAL_PEER = ("127.0.0.1", 0)
"""Who comes over a unix socket: somebody on this machine, who has no address."""


class Exchange:
    """What an application needs of it: `Cycle` is our own server's, `AsgiExchange` any other server's.

    A class and not a Protocol, because compiled code calls the methods of a compiled class directly.
    """

    disconnected = False
    """The client has gone before its answer was complete."""
    gone_status: int = CLIENT_GONE
    """How its request is told then: as it was refused, if it was cut for something that is wrong with it."""
    why_gone: str | None = None
    """Why we have cut it; None: it went by itself."""
    extra_lines: Sequence[bytes] = ()
    """Whole field lines of ours that go with the answer, whoever gives it."""
    why: str | None = None
    """What the log says of its answer: why it ended early, or whose 502 it is."""
    id_line = b""
    """The one that says the request's id; empty until that is known."""
    bytes_in = 0
    """Of the request's body, as far as it has come."""
    bytes_out = 0
    """Of the answer's body, as far as it was given to the client."""
    stored_as = ""
    """The id of what was made of it, where the application has stored it."""
    upstream = ""
    """The address of the last connection over which this was asked."""
    asked_at = 0.0
    """When somebody there was first asked (`time.monotonic`), if at all."""
    span: Span | None = None
    """Where tracing is on: its own, to which others belong."""
    upstream_seconds = -1.0
    """From asking there to the head of the answer; below 0: none came."""

    def __init__(self, head: RequestHead) -> None:
        self.head = head

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer; None of a unix socket."""
        raise NotImplementedError

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Address and port the peer came to; None of a unix socket."""
        raise NotImplementedError

    @property
    def listener(self) -> str:
        """The name of the listener that the peer came to; empty: not known."""
        return ""

    @property
    def scheme(self) -> str:
        raise NotImplementedError

    async def receive(self) -> Any:
        """The next piece of the body, as an ASGI message with `body` and `more_body`; or `http.disconnect`."""
        raise NotImplementedError

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """The one callback for when the client goes before its answer is complete; at once, if it has gone already."""
        raise NotImplementedError

    def on_reset(self, callback: Callable[[], object]) -> None:
        """The one callback for when the connection is reset after the answer is complete, and before anything else is
        asked on it: a client that closes it resets it where it has not read all of the answer. Only our server tells.
        """

    def has_hung_up(self) -> bool:
        """Whether the client has gone, also where that has arrived and is not read yet, if our server is asked."""
        return self.disconnected

    def inform(self, status: int, lines: Sequence[bytes]) -> None:
        """An interim response (1xx, RFC 9110 section 15.2) before the answer, to who understands it: not to HTTP/1.0,
        and not over another ASGI server."""

    async def send(self, message: Any) -> None:
        """The answer as ASGI messages; instead of `begin` and `write`."""
        raise NotImplementedError

    def begin(
        self, status: int, lines: Sequence[bytes], length: int | None, body: bytes = b"", *, more: bool = True
    ) -> None:
        """The head of the answer, and the first of its body with it. Nothing happens once the client is gone.

        `lines` are whole and sound field lines that are meant for the client; `length` is what their Content-Length
        says, None where there is none.
        """
        raise NotImplementedError

    def write(self, body: bytes, *, more: bool) -> None:
        """The next piece of the body. See to `drain` between pieces."""
        raise NotImplementedError

    @property
    def blocked(self) -> bool:
        """The client takes no more for now: `drain` before the next piece."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Until the client has taken enough, or is gone."""
        raise NotImplementedError
