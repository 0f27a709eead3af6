"""Connecting only to addresses that may be connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from sluice.http.client.origin import Origin
from sluice.http.errors import AddressRefused

Refuse = Callable[[str], str | None]
"""What kind of address it is, if we must not connect to it."""


async def connect_any(
    make: Callable[[], asyncio.Protocol], origin: Origin, tls: ssl.SSLContext | None, refuse: Refuse
) -> None:
    """Like `create_connection`, to the first address of the name that is not refused and that answers.

    What was looked at is what is connected to: the name is not asked a second time. Raises AddressRefused or OSError.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    refused: AddressRefused | None = None
    failed: OSError | None = None
    for *_, (address, *_) in found:
        kind = refuse(str(address))
        if kind is not None:
            refused = AddressRefused(f"no connection to {origin}: {address} is not a public address ({kind})")
            continue
        try:
            name = origin.host if tls else None
            await loop.create_connection(make, str(address), origin.port, ssl=tls, server_hostname=name)
        except ssl.SSLError:
            raise
        except OSError as error:
            failed = error
        else:
            return
    raise failed or refused or OSError(f"{origin.host} has no address")
