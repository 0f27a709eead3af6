"""Ports for servers that may be started more than once."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.policies import Policies
from sluice.config import Listen


def port_of(policies: Policies) -> int:
    """Of the first listener, which listens on TCP."""
    address = policies.listen[0].address
    assert isinstance(address, Listen)
    return address.port


@contextmanager
def free_ports() -> Iterator[Callable[[], int]]:
    """Ports that nobody else gets until the block has ended, neither another test process nor whoever binds port 0.

    They lie below those that the kernel gives away: a connection that goes out could have one of those for its own
    while its server is being started again. Each is claimed among all tests on this machine by a name that only one
    socket can have.
    """
    claims: list[socket.socket] = []

    def find() -> int:
        for _ in range(1000):
            port = random.randrange(15_000, 32_000)
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0sluice-test-port-{port}")
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
            claims.append(claim)
            return port
        raise AssertionError(f"no port is free; this block has claimed {len(claims)} of them")

    try:
        yield find
    finally:
        for claim in claims:
            claim.close()
