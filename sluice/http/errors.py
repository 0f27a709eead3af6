"""What can go wrong with an upstream.

    UpstreamError
    ├── ConnectFailed     refused, unreachable, unresolvable, TLS refused          nothing was sent
    ├── AddressRefused    the name leads only to addresses that are refused        nothing was sent
    ├── ConnectTimeout    no connection in time                                    nothing was sent
    ├── PoolExhausted     no free connection in time, no file for another one,     nothing was sent
    │                     or the pool is closed: our own limit
    ├── TooLate           the moment was over by which it had to begin             nothing was sent
    ├── UpstreamReset     closed before the head of a response was complete
    ├── HeadTimeout       no head of a response in time
    ├── BadResponse       not HTTP/1.1, or its length cannot be trusted
    ├── BodyCut           closed in the middle of a body
    └── IdleTimeout       nothing moved for too long in the middle of a body (of either side)

`BadHead` and `BadBody` are ours: the caller asked for something that must not be sent. Messages carry neither targets
nor fields nor bodies, so they may be logged.
"""

from __future__ import annotations


class UpstreamError(Exception):
    """`response_started`: at least one byte of a response had arrived, so the request was seen and must not repeat."""

    def __init__(self, message: str, *, response_started: bool = False) -> None:
        super().__init__(message)
        self.response_started = response_started


class ConnectFailed(UpstreamError):
    """No connection: nothing was sent."""


class AddressRefused(UpstreamError):
    """The name leads only to addresses that the pool refuses: nothing was sent."""


class ConnectTimeout(UpstreamError):
    """No connection in time: nothing was sent."""


class PoolExhausted(UpstreamError):
    """Every connection is in use and none came free in time, or we can open no more files: nothing was sent."""


class TooLate(UpstreamError):
    """The moment was over by which the request had to begin: nothing was sent."""


class UpstreamReset(UpstreamError):
    """The connection went away before the head of a response was complete, or while the request was being sent."""


class HeadTimeout(UpstreamError):
    """The head of the response did not come in time."""


class BadResponse(UpstreamError):
    """What came is not a response that can be passed on."""


class BodyCut(UpstreamError):
    """The connection went away before the end of the body."""


class IdleTimeout(UpstreamError):
    """The upstream neither sent nor took a byte of a body for too long."""


class BadHead(ValueError):
    """A request head that must not be sent: it would be read as another request than was meant."""


class BadBody(ValueError):
    """More or less body than the head announced."""


class BadField(ValueError):
    """A line that is not a field, or not one that can be passed on."""


class BadFraming(ValueError):
    """A head or a body whose end cannot be trusted."""
