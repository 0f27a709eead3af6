"""Sends webhooks exactly as the existing workers do (webhookNotifier.js), retries and losses included.

Ten sockets, one connection for each attempt, ten seconds for each. What is refused a connection or times out is sent
again after 2, 4 and 8 s, what is answered 429 after 1, 2 and 4 s, each time signed anew and without an id. A 5xx, any
other 4xx and a reset are the end: the event is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field

from sluice.config import Signature
from sluice.http.signatures import sign

TIMEOUT = 10.0
SOCKETS = 10
AFTER_SILENCE = (2.0, 4.0, 8.0)
AFTER_429 = (1.0, 2.0, 4.0)


@dataclass(slots=True)
class ContractSender:
    """`port`: of the gateway on this machine."""

    port: int
    signature: Signature
    path: bytes = b"/hooks/message"
    instance: str = "http://localhost:3001"
    """What it says of itself in X-Instance-Url."""
    scale: float = 1.0
    """Of its timeout and its pauses: 0.1 is ten times as fast."""
    answered: list[bytes] = field(default_factory=list)
    """The bodies that were answered with a 2xx."""
    lost: dict[bytes, str] = field(default_factory=dict)
    """The bodies that it gave up, and why."""
    attempts: Counter[str] = field(default_factory=Counter)
    """By how they ended: a status, `refused`, `timeout`, `reset`."""
    _sockets: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SOCKETS))

    async def send(self, body: bytes) -> str:
        """To its end; how its last attempt ended."""
        for tries in range(4):
            async with self._sockets:
                outcome = await self._attempt(body)
            self.attempts[outcome] += 1
            if outcome.startswith("2"):
                self.answered.append(body)
                return outcome
            waits = AFTER_429 if outcome == "429" else AFTER_SILENCE if outcome in ("refused", "timeout") else ()
            if tries >= len(waits):
                self.lost[body] = outcome
                return outcome
            await asyncio.sleep(waits[tries] * self.scale)
        raise AssertionError("the last attempt ends it")

    async def _attempt(self, body: bytes) -> str:
        try:
            async with asyncio.timeout(TIMEOUT * self.scale):
                return await self._post(body)
        except TimeoutError:
            return "timeout"
        except ConnectionRefusedError:
            return "refused"
        except (OSError, asyncio.IncompleteReadError):
            return "reset"

    async def _post(self, body: bytes) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            proof = b"".join(b"%b: %b\r\n" % pair for pair in sign(self.signature, body, time.time()))
            writer.write(
                b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n%b"
                b"X-Instance-Url: %b\r\nUser-Agent: WhatsApp-WebJS-Service/1.0\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
                % (self.path, self.port, proof, self.instance.encode(), len(body), body)
            )
            status = (await reader.readuntil(b"\r\n")).split(b" ")[1]
            await reader.read()
            return status.decode()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
