"""How many files this process may have open, and how many of them are kept for our own work.

Connections of clients never have the last quarter: connections to upstreams and to the store, and the log, would fail
when clients have all of it. A new file gets the lowest number that is free, so its number says whether it is one of
those; nothing has to be counted.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from asyncio import BaseTransport
from functools import cache

try:
    import resource
except ImportError:  # there is no such limit on Windows
    resource = None  # type: ignore[assignment]

_MOST = 2**20
"""Beyond it no process of ours comes, and some of others look at each number there could be."""
NO_MORE = frozenset((errno.EMFILE, errno.ENFILE))
"""`errno` of an OSError that says that no further file can be opened."""


def raise_limit() -> None:
    """From the soft limit, which is 1,024 nearly everywhere, to the hard one; to be called at the start of a process.
    Its children inherit it."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS takes no more than its own maximum
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    first_reserved.cache_clear()


@cache
def first_reserved() -> int:
    """The first of the numbers that no client's connection may have."""
    if resource is None:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft - soft // 4


def are_half_used(transport: BaseTransport) -> bool:
    """Whether this connection is of the second half of those for clients, or of those that are kept."""
    return _number(transport) >= first_reserved() // 2


def is_reserved(transport: BaseTransport) -> bool:
    """Whether this connection has one of them."""
    return _number(transport) >= first_reserved()


def is_nearly_last(transport: BaseTransport) -> bool:
    """Whether it has one of the second half of them."""
    first = first_reserved()
    return _number(transport) >= first + first // 6


def _number(transport: BaseTransport) -> int:
    wire = transport.get_extra_info("socket")
    return -1 if wire is None else int(wire.fileno())
