"""A receiver that is bad to some sessions, for ever or by phases, and at times to any; and calm when it is told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson

from tests.e2e.account import Account
from tests.relay.receiver import OK, Got

HANGS = 0
BAD = {"missing": 404, "expired": 419, "throttled": 429, "hanging": HANGS}
"""What the sessions of these names are answered."""
HEALTHY = "healthy"
_HANG = 3.0  # seconds, longer than the endpoint's timeout
_PERIOD = 8.0  # seconds in which a session `…-phases` is answered badly for the first half
_OUTAGE_EVERY, _OUTAGE_FOR = 12.0, 2.5  # seconds
_OUTAGES = (422, 419, 404, 500)
"""What everybody is answered in an outage, in turn, where it is bad to anybody."""
_FAILS, _HANGS, _THROTTLES = 0.02, 0.004, 0.002  # of the attempts, where it is bad to anybody


def sessions(healthy: int, bad: Sequence[str]) -> list[str]:
    """`bad`: such as `missing-always` or `missing-phases`."""
    return [*(f"{HEALTHY}-{number}" for number in range(healthy)), *bad]


@asynccontextmanager
async def bad_receiver(
    port: int, account: Account, chance: random.Random | None = None
) -> AsyncIterator[asyncio.Event]:
    """Bad until the event it gives is set; with `chance` to any session."""
    calm, began = asyncio.Event(), time.monotonic()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                got = await _read(reader)
                if not got.body:  # no webhook
                    writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n")
                    continue
                event = orjson.loads(got.body)
                data = event["data"]
                session = data["session_id"]
                is_of_load = event["event"] != "message_sent" and "sequence" in data  # no other has one
                if is_of_load:
                    account.posted[session, data["sequence"]].append(time.monotonic())
                status = 200 if calm.is_set() else _status(session, time.monotonic() - began, chance)
                account.answers[str(status or "hung")] += 1
                if status == HANGS:
                    await asyncio.sleep(_HANG)
                    return
                if status == OK[0] and event["event"] == "message_sent":
                    account.sent[data["message"]["body"]].add(data["message"]["id"])
                elif status == OK[0] and is_of_load:
                    sent = (session, data["sequence"])
                    account.taken.append((sent, got.all("webhook-id")[0].decode(), time.monotonic()))
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
                await writer.drain()

    server = await asyncio.start_server(play, "127.0.0.1", port)
    try:
        yield calm
    finally:
        server.close()


def _status(session: str, elapsed: float, chance: random.Random | None) -> int:
    kind, _, when = session.partition("-")
    if kind in BAD and (when == "always" or elapsed % _PERIOD < _PERIOD / 2):
        return BAD[kind]
    number, since = divmod(elapsed, _OUTAGE_EVERY)
    if chance and since > _OUTAGE_EVERY - _OUTAGE_FOR:
        return _OUTAGES[int(number) % len(_OUTAGES)]
    drawn = chance.random() if chance else 1.0
    if drawn < _HANGS:
        return HANGS
    if drawn < _HANGS + _THROTTLES:
        return 429
    return 500 if drawn < _HANGS + _THROTTLES + _FAILS else OK[0]


async def _read(reader: asyncio.StreamReader) -> Got:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    headers = [(name, value) for name, _, value in (each.partition(b": ") for each in lines)]
    got = Got(line, headers, b"")
    for length in got.all("content-length"):
        got.body = await reader.readexactly(int(length))
    return got
