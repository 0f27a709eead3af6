"""Where a server is and how to log in there. URLs mean what they mean to redis-py, whose parser reads them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field, replace
from typing import Any

from redis.asyncio.connection import SSLConnection, parse_url

from sluice.store.protocol.packing import Command

_KEEPALIVE = 60
"""Seconds of silence after which the kernel asks whether the other side is still there: firewalls forget sooner than
anybody calls at night."""


@dataclass(frozen=True, slots=True)
class Address:
    """`str` of it holds no secret."""

    host: str
    port: int
    path: str | None = None
    """Of a unix socket; then host and port mean nothing."""
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    name: str | None = None
    """What the connection calls itself (`client_name=` in the URL)."""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    def at(self, host: str, port: int) -> Address:
        """Another server of the same deployment."""
        return replace(self, host=host, port=port, path=None)

    def greeting(self) -> list[Command]:
        """What is said on a new connection, before anything else."""
        greeting: list[Command] = []
        if self.password is not None:
            greeting.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.name:
            greeting.append(("CLIENT", "SETNAME", self.name))
        if self.db:
            greeting.append(("SELECT", self.db))
        return greeting

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """Raises OSError, or UnicodeError for what cannot be a host name."""
        loop = asyncio.get_running_loop()
        if self.path is not None:
            await loop.create_unix_connection(lambda: protocol, self.path)
            return
        transport, _ = await loop.create_connection(lambda: protocol, self.host, self.port, ssl=self.tls)
        _keep_alive(transport.get_extra_info("socket"))


def parse(url: str) -> Address:
    """Of `redis://`, `rediss://` or `unix://`. Raises ValueError; its message may quote the URL's options."""
    options: dict[str, Any] = dict(parse_url(url))
    connection = options.pop("connection_class", None)
    tls = None
    if connection is SSLConnection:
        named = {key: value for key, value in options.items() if key.startswith("ssl_")}
        try:
            tls = SSLConnection(**named).ssl_context.get()
        except TypeError as error:
            raise ValueError(str(error)) from None
    return Address(
        options.get("host", "localhost"),
        options.get("port", 6379),
        options.get("path"),
        tls,
        options.get("username"),
        options.get("password"),
        int(options.get("db") or 0),
        options.get("client_name"),
    )


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE)
