"""The body of a PUT, piece by piece into a file: checked against what was signed, and never in memory as a whole."""

from __future__ import annotations

import asyncio
import hashlib
from typing import IO

from starlette.types import Receive

from sessions.profiles.calls import DIGEST, MAX_ZIP, too_long
from sessions.profiles.threads import in_thread
from sessions.profiles.transfers import LONGEST
from sluice.http.problem import ClientGone, Refusal

_PIECE = 2**20
"""Bytes that are collected before they are written."""


async def receive_into(file: IO[bytes], receive: Receive, digest: str, pause: float) -> int:
    """How many bytes came. `pause`: the seconds in which more of it has to come, where the server has no clock for it.

    Raises ClientGone, Refusal 400, 408 or 413, and OSError such as a full disk.
    """
    try:
        async with asyncio.timeout(LONGEST):
            size, found = await _receive(file, receive, pause)
    except TimeoutError:
        raise Refusal(408, f"the whole zip did not come within {LONGEST / 60:.0f} minutes; try again") from None
    if found != digest:
        raise Refusal(400, f"{DIGEST} was signed as {digest}, but what came has {found}: it was changed on its way")
    return size


async def _receive(file: IO[bytes], receive: Receive, pause: float) -> tuple[int, str]:
    hashed, pending, size, more = hashlib.sha256(), bytearray(), 0, True

    def write(piece: bytes) -> None:
        hashed.update(piece)
        file.write(piece)

    while more:
        try:
            async with asyncio.timeout(pause):
                message = await receive()
        except TimeoutError:
            raise Refusal(408, f"no more of the zip came for {pause:g} seconds (clients.body)") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        pending += message.get("body", b"")
        more = message.get("more_body", False)
        if size + len(pending) > MAX_ZIP:
            raise too_long()
        if pending and (not more or len(pending) >= _PIECE):
            piece = bytes(pending)
            size += len(piece)
            pending.clear()
            await in_thread(write, piece)
    await in_thread(file.flush)
    return size, hashed.hexdigest()
