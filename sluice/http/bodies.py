"""Request bodies that are read whole, all of them together within one budget of bytes.

What is over the budget is not read: the client's sending stops until others have been answered, for as long as its
sender may be held; then its request is refused as by a full backlog. A body counts from its first byte until its
request is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from sluice.http.problem import ClientGone
from sluice.http.senders import USUAL, Sender
from sluice.observe.metrics import counts, recent

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_REFUSED: Final = counts("sluice_bodies_refused_total", "Requests whose body was not read to its end.", ["reason"])
recent(_REFUSED, "sluice_bodies_refused_total", ["reason"])


class BodyBudget:
    """Of one process. `limit` in bytes; it may change while bodies are held."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> bool:
        """False: there is no room for it, or others wait for theirs."""
        if self._waiting or self.used + size > self.limit:
            return False
        self.used += size
        return True

    async def wait(self, size: int, sender: Sender) -> None:
        """Takes it when there is room: who came first is served first. Raises Refusal after as long as the sender may
        be held."""
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (size, room)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(sender.hold):
                await room
        except BaseException as error:
            if room.done() and not room.cancelled():
                self.give_back(size)  # it was served and stopped at the same moment
            else:
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiting.remove(waiting)
                self._serve()
            if not isinstance(error, TimeoutError):
                raise
            _REFUSED.add("bodies_full")
            detail = "too many request bodies are held right now (bodies in policies.yaml); send it again"
            raise sender.refusal(detail, b"5") from None

    def give_back(self, size: int) -> None:
        self.used -= size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self.used + self._waiting[0][0] <= self.limit:
            size, room = self._waiting.popleft()
            if not room.done():  # else it waits no more, and is about to say so
                self.used += size
                room.set_result(None)


class HeldBody:
    """What one request holds of the budget, until `release`."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0

    async def read(self, receive: Receive, most: int, sender: Sender = USUAL) -> bytes | None:
        """The whole body; None: it has over `most` bytes, or more than the budget.

        Raises ClientGone, and Refusal, as the sender repeats it, when the budget is used up for too long.
        """
        budget = self._budget
        most = min(most, budget.limit)
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size = len(chunk)
            if self._size + size > most:
                return None
            if not budget.take(size):
                await budget.wait(size, sender)
            self._size += size
            chunks.append(chunk)
            if not message.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self) -> None:
        """Whatever became of the request. Twice is the same as once."""
        size, self._size = self._size, 0
        if size:
            self._budget.give_back(size)
