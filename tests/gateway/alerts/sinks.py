"""Receivers of alerts, all real: a webhook that keeps what it is sent, and a small SMTP server (RFC 5321)."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.gateway.running import Receiver, receiver

HANGS = b""


@dataclass
class Sink:
    receiver: Receiver

    @property
    def url(self) -> str:
        return f"{self.receiver.url}/services/T0/secret?token=hidden"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [orjson.loads(body) for body in self.receiver.bodies if body]

    @property
    def notified(self) -> list[tuple[str, str]]:
        """Event and subject of all alerts that came, in their order."""
        return [(one["event"], one["subject"]) for message in self.messages for one in message["alerts"]]

    def answer(self, status: str, *fields: str, body: str = "") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
        self.receiver.response = "\r\n".join([*lines, "", body]).encode()

    def hang(self) -> None:
        self.receiver.response = HANGS


@asynccontextmanager
async def webhook(tls: ssl.SSLContext | None = None) -> AsyncIterator[Sink]:
    async with receiver(tls) as made:
        yield Sink(made)


@dataclass
class Mailbox:
    port: int = 0
    messages: list[bytes] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refuses: str = ""
    """What it answers to a recipient."""
    hangs_at: str = ""
    """The command that it never answers."""
    tls: ssl.SSLContext | None = None
    offers_tls: bool = True
    tls_at_once: bool = False
    """`tls` is spoken from the first byte on, as at port 465."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())

        to, secure = list[str](), self.tls_at_once
        say("220 mail.test ESMTP")
        while line := await reader.readline():
            command, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            word = command.upper()
            if word == self.hangs_at:
                await asyncio.Event().wait()
            match word:
                case "EHLO":
                    more = ["STARTTLS"] if self.tls and self.offers_tls and not secure else []
                    offered = ["mail.test", "AUTH PLAIN", *more]
                    for one in offered:
                        say(f"250{' ' if one is offered[-1] else '-'}{one}")
                case "STARTTLS" if self.tls:
                    say("220 go ahead")
                    await writer.drain()
                    await writer.start_tls(self.tls)
                    secure = True
                case "AUTH":
                    self.logins.append(base64.b64decode(rest.split()[-1]).decode())
                    say("235 welcome")
                case "RCPT":
                    to.append(rest.partition("<")[2].partition(">")[0])
                    say(self.refuses or "250 ok")
                case "DATA":
                    say("354 go ahead")
                    message = await reader.readuntil(b"\r\n.\r\n")
                    self.messages.append(message.removesuffix(b".\r\n"))
                    self.recipients.append(to)
                    self.encrypted.append(secure)
                    to = []
                    say("250 taken")
                case "QUIT":
                    say("221 bye")
                    break
                case _:
                    say("250 ok")


@asynccontextmanager
async def mailbox(**how: Any) -> AsyncIterator[Mailbox]:
    made, talks = Mailbox(**how), set[asyncio.Task[Any]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await made.talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            talks.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=made.tls if made.tls_at_once else None)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
