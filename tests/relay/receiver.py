"""A receiver that keeps what it was sent and answers what it is told to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from tests.sluice.http.client.upstream import Call, upstream

OK = (200, b"ok")
Answer = Callable[["Got"], tuple[int, bytes]]


@dataclass
class Got:
    """A request as it arrived."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.encode().lower()]


@dataclass
class Receiver:
    answer: Answer = lambda _: OK
    got: list[Got] = field(default_factory=list)
    url: str = ""
    port: int = 0

    async def play(self, call: Call) -> None:
        while True:
            line, *lines = (await call.head()).split(b"\r\n")[:-2]
            headers = [(name, value) for name, _, value in (each.partition(b": ") for each in lines)]
            got = Got(line, headers, b"")
            (length,) = got.all("content-length")  # always there, exactly once
            got.body = await call.reader.readexactly(int(length))
            self.got.append(got)
            status, answer = self.answer(got)
            call.say(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer))


@contextlib.asynccontextmanager
async def receiver(answer: Answer = lambda _: OK) -> AsyncIterator[Receiver]:
    made = Receiver(answer)
    async with upstream(made.play) as up:
        made.url, made.port = str(up.origin), up.origin.port
        yield made
