"""What strangers do to a gateway, each from an address of its own, all at once, in one process.

    python -m hostility.attacks PORT SECONDS

Each attack keeps its number of connections open: whoever is cut comes back at once. What came of it goes to standard
output, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import uvloop

KIB = 1024
_SMALL = 4 * KIB
_AGAIN = 0.05  # seconds before somebody who was cut comes back
_BEGIN_WITHIN = 1.0  # seconds
_NICE = 10
"""The client who is measured shares the attackers' core, and goes first there."""


@dataclass(slots=True)
class Done:
    """What came of one attack."""

    connections: int
    """At once."""
    opened: int = 0
    sent: int = 0
    """Bytes."""
    answered: int = 0
    """Connections on which the gateway said anything."""
    cut: int = 0
    """Connections that it closed."""
    refused: int = 0
    """Connections that it did not accept."""


class Stranger:
    """One connection of an attack."""

    def __init__(self, connection: socket.socket, done: Done) -> None:
        self._connection = connection
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._heard = False

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._connection, data)
        self._done.sent += len(data)

    async def hear(self, most: int = 64 * KIB) -> bytes:
        data = await self._loop.sock_recv(self._connection, most)
        if not data:
            raise ConnectionResetError
        if not self._heard:
            self._heard = True
            self._done.answered += 1
        return data


Attack = Callable[[Stranger, random.Random], Awaitable[None]]


async def read_slowly(stranger: Stranger, _: random.Random) -> None:
    """A large answer, of which a few bytes are taken each second."""
    await stranger.send(b"GET /large HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    while True:
        await stranger.hear(16)
        await asyncio.sleep(1.0)


async def write_slowly(stranger: Stranger, _: random.Random) -> None:
    """An upload of a byte a second."""
    await stranger.send(b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100000\r\n\r\n")
    while True:
        await stranger.send(b"x")
        await asyncio.sleep(1.0)


async def write_a_head_slowly(stranger: Stranger, _: random.Random) -> None:
    for byte in b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-Slow: " + b"x" * 100_000:
        await stranger.send(bytes([byte]))
        await asyncio.sleep(1.0)


async def say_nothing(stranger: Stranger, _: random.Random) -> None:
    await stranger.hear()


async def ping(stranger: Stranger, chance: random.Random) -> None:
    """A WebSocket, and then nothing but pings."""
    await stranger.send(
        b"GET /socket HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    if b" 101 " not in await stranger.hear():
        raise ConnectionResetError
    frames = b"".join(b"\x89\xfd" + bytes(4) + chance.randbytes(125) for _ in range(500))
    hearing = asyncio.create_task(_hear_all(stranger))
    try:
        while not hearing.done():
            await stranger.send(frames)
    finally:
        hearing.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await hearing


async def send_headers(stranger: Stranger, chance: random.Random) -> None:
    """Heads of 60 kB, of which no two have anything in common, one behind the other."""
    hearing = asyncio.create_task(_hear_all(stranger))
    try:
        while not hearing.done():
            lines = [b"X-%b: %b\r\n" % (chance.randbytes(8).hex().encode(), chance.randbytes(120).hex().encode())]
            lines += [b"X-%x: %b\r\n" % (n, chance.randbytes(120).hex().encode()) for n in range(220)]
            host = chance.randbytes(60).hex().encode()
            path = chance.randbytes(100).hex().encode()
            await stranger.send(b"GET /%b HTTP/1.1\r\nHost: %b.example\r\n%b\r\n" % (path, host, b"".join(lines)))
    finally:
        hearing.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await hearing


async def send_bodies(stranger: Stranger, chance: random.Random) -> None:
    """Webhooks of 8 MiB whose signature is made up, at a time that is right."""
    size = 8 * KIB * KIB
    await stranger.send(
        b"POST /hooks/message HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\n"
        b"X-HMAC-Signature: %b\r\nX-Timestamp: %d\r\nContent-Length: %d\r\n\r\n"
        % (chance.randbytes(32).hex().encode(), time.time(), size)
    )
    piece = b"{}," * (64 * KIB // 3)
    for _ in range(size // len(piece)):
        await stranger.send(piece)
    await stranger.send(b" " * (size % len(piece)))
    await stranger.hear()


ATTACKS: dict[str, tuple[Attack, int]] = {
    "slow readers": (read_slowly, 300),
    "slow writers of bodies": (write_slowly, 200),
    "slow writers of heads": (write_a_head_slowly, 200),
    "silent connections": (say_nothing, 1000),
    "ping flood": (ping, 4),
    "header flood": (send_headers, 4),
    "big unsigned bodies": (send_bodies, 8),
}
"""With how many connections at once."""


async def _hear_all(stranger: Stranger) -> None:
    while True:
        await stranger.hear()


async def _again_and_again(attack: Attack, port: int, address: str, done: Done, seed: int) -> None:
    chance = random.Random(seed)
    await asyncio.sleep(chance.random() * _BEGIN_WITHIN)
    while True:
        with socket.socket() as connection:
            connection.setblocking(False)
            if attack is read_slowly:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
            try:
                connection.bind((address, 0))
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            except OSError:
                done.refused += 1
            else:
                done.opened += 1
                try:
                    await attack(Stranger(connection, done), chance)
                except OSError:
                    done.cut += 1
        await asyncio.sleep(_AGAIN)


async def all_at_once(port: int, seconds: float) -> dict[str, Done]:
    """Each attack from an address of its own."""
    dones: dict[str, Done] = {}
    tasks = []
    for number, (name, (attack, connections)) in enumerate(ATTACKS.items()):
        dones[name] = Done(connections)
        tasks += [
            asyncio.create_task(_again_and_again(attack, port, f"127.0.1.{number + 1}", dones[name], seed))
            for seed in range(connections)
        ]
    await asyncio.sleep(seconds)
    left = set(tasks)
    while left:  # one that is just being cut takes the first for its own listener's
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)
    return dones


if __name__ == "__main__":
    os.nice(_NICE)
    found = uvloop.run(all_at_once(int(sys.argv[1]), float(sys.argv[2])))
    json.dump({name: asdict(done) for name, done in found.items()}, sys.stdout)
