"""Names that lead where a test says, and addresses that answer nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sluice.http.addresses import is_literal

Resolve = Callable[..., None]
"""From now on every name leads to these addresses."""


def resolving(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Of the loop that runs when it is called."""

    def leads_to(*addresses: str) -> None:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            # uvloop asks again for each address that it connects to.
            return [_found(address, port) for address in ((host,) if is_literal(host) else addresses)]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)

    return leads_to


def _found(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


@contextlib.contextmanager
def hanging(address: str, port: int) -> Iterator[None]:
    """A host there that answers nobody: its backlog is full, so the kernel drops who asks."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind((address, port))
        full.listen(0)
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex((address, port))
        yield
