"""What holds on to a connection that is over. Only the garbage collector would find it, which everybody waits for."""

from __future__ import annotations

from websockets.protocol import Protocol


def let_go(connection: Protocol) -> None:
    """Ends its parser, and forgets in which frames its errors were raised. It reads nothing any more."""
    connection.parser.close()
    _forget_frames(connection.handshake_exc)
    _forget_frames(connection.parser_exc)


def _forget_frames(error: BaseException | None) -> None:
    """Of what led to the error, too."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
