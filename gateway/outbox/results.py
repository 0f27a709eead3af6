"""What is known of each send of the outbox, in the store: owns `sl:{out:<nn>}:<id>`.

    accepted ── hand_over ──▶ handed ── end ──▶ ended: what its callers get, and why it is a dead letter, if it is
        ▲                       │
        └────── put_off ────────┘  nobody was asked, or whoever was has certainly not sent it

Beside that there is at most one promise: who waited as long as `hold` says was told our id. It is decided in the store
which of the two came first. So a send whose caller got the worker's own answer is known to him by the worker's id, and
one whose caller was promised ours, by ours.

What others join to it (`Receipts`), by `Results.receipts`:

- `promised` is awaited for each send that a worker has taken and whose caller was promised our id, before it leaves the
  queue. It may be called more than once for one send; where it raises StoreAway or StoreRefused it is called again.
- `run_of` and `fields` are asked right before a send is given to a worker. `begun` is awaited then, and where it raises
  the send is not given to it. `ended` is awaited when it has ended for nobody who was promised our id, and never fails.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.workers.send_records import Outcome, packed
from gateway.workers.target import Target
from relay.queue.replicated import Replicated
from sluice.http.fields import Field
from sluice.store.client import Arg, Call, Store, StoreAway, StoreRefused, load_script

KEY_PATTERNS = ("sl:{out:<nn>}:<id>",)
_SLOTS = 16
"""Each slot has a clock of its own, which stays."""
KEPT_FOR = 31 * 86400.0
"""Seconds that is kept what is known of a send that has not ended."""
_LOOK_EVERY = 0.2
_HAND_OVER = load_script("gateway.outbox", "hand_over")
_END = load_script("gateway.outbox", "end_send")
_PROMISE = load_script("gateway.outbox", "promise")
_PUT_OFF = load_script("gateway.outbox", "put_off")


@dataclass(frozen=True, slots=True)
class Promised:
    """A send that a worker has answered with 2xx, and whose caller was told that it is `id`."""

    id: str
    """Ours: of the event, and of the message as far as its caller knows. A piece of a bulk-send has its own."""
    session: str
    worker: str
    body: bytes
    """Of the worker's answer: of a send or a bulk-send of one recipient, as the contract has it."""


class Receipts(Protocol):
    """Whoever looks after the ids of messages."""

    def run_of(self, target: Target) -> str:
        """Which run of this worker knows sends by their ids, and sends none of them twice; empty: it does not."""
        ...

    def fields(self, target: Target, send: str) -> Sequence[Field]:
        """What this worker is told with a send beside what its caller wrote. `send`: our id."""
        ...

    async def begun(self, send: str, session: str, target: Target) -> None:
        """It is about to be given to this worker. Raises StoreAway or StoreRefused."""
        ...

    async def ended(self, send: str, session: str) -> None:
        """Its caller does not know it by our id, or no worker has taken it."""
        ...

    async def promised(self, send: Promised) -> None:
        """The worker has taken it. Raises StoreAway or StoreRefused; then it is called again."""
        ...


class NoReceipts:
    """Workers know nothing of our ids, and nobody wants to know theirs."""

    def run_of(self, _: Target) -> str:
        return ""

    def fields(self, _: Target, __: str) -> Sequence[Field]:
        return ()

    async def begun(self, _: str, __: str, ___: Target) -> None:
        return None

    async def ended(self, _: str, __: str) -> None:
        return None

    async def promised(self, _: Promised) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Handed:
    """It was given to a worker before, and what became of it is not known yet, or never will be."""

    gateway: str
    worker: str
    ago: float
    """Seconds."""
    run: str = ""
    """Of a worker that knows sends by their ids (`Receipts.run_of`)."""


@dataclass(frozen=True, slots=True)
class Ended:
    promised: bool
    dead: str
    """Why it is a dead letter; empty: it is none."""


class Results:
    """Of one process. `gateway`: its name, as others know it. `noting`: where it is noted that a send is given to a
    worker, if that is to survive the loss of a master. All methods raise StoreAway and StoreRefused."""

    def __init__(self, store: Store, gateway: str, noting: Replicated | None = None) -> None:
        self.gateway = gateway
        self.receipts: Receipts = NoReceipts()
        self._store = store
        self._noting = noting or Replicated(store)
        self._waiting: dict[str, list[asyncio.Event]] = {}
        """By send, of whoever waits for it here."""
        self._stopped = False

    async def hand_over(
        self, send: str, session: str, target: Target, attempt: str, *, anyway: bool = False
    ) -> Ended | Handed | None:
        """Notes that it is being given to this worker, which may be asked then (None): what one worker turns down in an
        attempt the next one may get. `anyway`: also where one was given it in another attempt."""
        await self.receipts.begun(send, session, target)
        run = self.receipts.run_of(target)
        arguments: list[Arg] = [self.gateway, target.worker, run, attempt, "1" if anyway else "0", _ms(KEPT_FOR)]
        answer, *_ = await self._noting.run_all([Call(_HAND_OVER, [_key(send)], arguments)])
        what, *more = answer or (None,)
        if what is None:
            return None
        if what == b"handed":
            gateway, worker, ago = more
            return Handed(gateway.decode(), worker.decode(), ago / 1000)
        promised, dead, worker, outcome = more
        ended = Ended(promised == b"1", dead.decode())
        await self._tell(send, session, worker.decode(), ended, outcome)
        return ended

    async def look(self, send: str, session: str) -> Ended | Handed | None:
        """What `hand_over` would find; nothing is noted."""
        fields = ("answer", "end", "promised", "handed", "worker")
        ((answer, dead, promised, handed, worker),) = await self._store.commands(("HMGET", _key(send), *fields))
        if answer is not None:
            ended = Ended(promised is not None, dead.decode())
            await self._tell(send, session, worker.decode(), ended, answer)
            return ended
        if handed is None:
            return None
        gateway, to, run, _, at = handed.decode().split("\0")
        return Handed(gateway, to, max(0.0, time.time() - int(at) / 1000), run)

    async def end(
        self,
        send: str,
        session: str,
        worker: str,
        outcome: Outcome,
        *,
        dead: str,
        dead_if_promised: str,
        kept: float,
        promise: bool = False,
    ) -> Ended:
        """`dead`, `dead_if_promised`: why it is a dead letter, if it is. `kept`: seconds that this is kept. `promise`:
        nobody waits for it any more, so its caller counts as promised our id."""
        answer = packed(outcome)
        arguments: list[Arg] = [answer, dead_if_promised, dead, worker, _ms(kept), int(promise)]
        promised, why = await self._store.run(_END, [_key(send)], arguments)
        for waiting in self._waiting.get(send, ()):
            waiting.set()
        ended = Ended(promised == b"1", why.decode())
        await self._tell(send, session, worker, ended, answer)
        return ended

    async def _tell(self, send: str, session: str, worker: str, ended: Ended, answer: bytes) -> None:
        if ended.promised and not ended.dead:
            await self.receipts.promised(Promised(send, session, worker, answer.partition(b"\n")[2]))
        else:
            await self.receipts.ended(send, session)

    async def put_off(self, send: str, session: str, attempt: str) -> float:
        """It was not sent in this attempt for certain. Returns for how many seconds nobody can be asked."""
        await self.receipts.ended(send, session)
        return float(await self._store.run(_PUT_OFF, [_key(send)], [_ms(KEPT_FOR), attempt])) / 1000

    async def promise(self, send: str) -> bytes | None:
        """What its caller gets, who waits no longer (`unpacked`); None: our id."""
        answer: bytes = await self._store.run(_PROMISE, [_key(send)], [_ms(KEPT_FOR)])
        return answer or None

    async def forget(self, send: str) -> None:
        """What became of it: a person has it sent again."""
        await self._store.commands(("HDEL", _key(send), "answer", "end", "handed", "stuck", "worker"))

    def stop(self) -> None:
        """Nobody waits here any more."""
        self._stopped = True
        for waiting in self._waiting.values():
            for one in waiting:
                one.set()

    async def wait(self, send: str, until: float) -> None:
        """Until it has ended or was promised, wherever that was, or until a moment (`time.monotonic`)."""
        if self._stopped:
            return
        here = asyncio.Event()
        self._waiting.setdefault(send, []).append(here)
        try:
            while (left := until - time.monotonic()) > 0 and not here.is_set() and not await self._is_decided(send):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(_LOOK_EVERY, left)):
                        await here.wait()
        finally:
            self._waiting[send].remove(here)
            if not self._waiting[send]:
                del self._waiting[send]

    async def _is_decided(self, send: str) -> bool:
        try:
            (found,) = await self._store.commands(("HMGET", _key(send), "answer", "promised"))
        except (StoreAway, StoreRefused):
            return False  # it may be back in time
        return any(one is not None for one in found)


async def ended(store: Store, sends: Sequence[str]) -> list[tuple[bool, bytes] | None]:
    """Of each whether its caller was promised our id, and the body of what its worker has answered; None: it has not
    ended. Raises StoreAway and StoreRefused."""
    found = await store.commands(*(("HMGET", _key(send), "answer", "promised") for send in sends))
    return [
        None if answer is None else (promised is not None, answer.partition(b"\n")[2]) for answer, promised in found
    ]


def _key(send: str) -> str:
    return f"sl:{{out:{binascii.crc_hqx(send.encode(), 0) % _SLOTS:02d}}}:{send}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
