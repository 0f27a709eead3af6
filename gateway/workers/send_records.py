"""What gateways tell each other of attempts to send, in the store: owns `sl:{send:<nn>}:<digest>`.

Each attempt is noted before a worker is asked, so that a repeat which reaches another gateway finds it, also after the
one that makes it was killed (docs/decisions/0012). While the store is away only this process knows of its own.
"""

from __future__ import annotations

import asyncio
import binascii
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import orjson

from gateway.limits import peers
from gateway.problems import Refusal
from sluice.http.server import RecordedExchange, RequestHead
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused, load_script

LOG = Log("gateway")
KEPT_FOR = 120.0
"""Seconds in which the same send is taken for a repeat of one whose outcome did not reach its caller."""
KEY_PATTERNS = ("sl:{send:<nn>}:<digest>",)
_SLOTS = 16
"""Each slot has a clock of its own, which stays."""
LARGEST = 2**20
"""Bytes of an outcome; of one that is longer other gateways learn only that it is not known."""
_BEGUN_FOR = 2 * KEPT_FOR
_LOOK_EVERY = 0.2
_SETTLED_BY = 5  # looks
_HEARD = 2  # times
_SILENT, _MISSING = 6.0, 2.0  # seconds after which a gateway counts as gone: it says each second that it is there
_BEGIN = load_script("gateway.workers", "begin_send")
_NOTE = load_script("gateway.workers", "note_send")

Outcome = RecordedExchange | Refusal


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt that was found in the store, for whose outcome this gateway waits now."""

    attempt: str
    runner: str
    outcome: bytes


class Presence:
    """Whether another gateway is there: it says so each second, and right before that it notes whose callers have hung
    up. What it said first after a look may have been on its way before that; so it is heard twice."""

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self._store = store
        self._began = time.monotonic()
        self._first: float | None = None
        self._said: float | None = None
        self._looks = self._heard = 0

    async def look(self) -> bool | None:
        """Whether it has begun and said so since the first look, or is gone; None: neither is certain yet."""
        said = await peers.last_said(self._store, self.name)
        now = time.monotonic()
        self._looks += 1
        if self._looks == 1:
            self._first, self._began = said, now
        elif said is not None and said != self._first:
            self._first, self._began = said, now
            self._heard += 1
            if self._heard == _HEARD:
                return True
        elif now - self._began > (_MISSING if said is None else _SILENT):
            return False
        return None


class SendRecords:
    """`name`: of this gateway, as others know it."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._noting: set[asyncio.Task[None]] = set()

    async def begin(self, digest: str, attempt: str) -> Found | None:
        """Notes an attempt that begins; or the one that this is a repeat of. Usually one round trip."""
        try:
            reply = await self._begin(digest, attempt, gone="", sure=False)
            presence = None
            while reply and not reply[0]:
                other = reply[1].decode()
                if presence is None or presence.name != other:
                    presence = Presence(self._store, other)
                is_there = await presence.look()
                if is_there is None:
                    await asyncio.sleep(_LOOK_EVERY)
                gone = other if is_there is False else ""
                reply = await self._begin(digest, attempt, gone=gone, sure=is_there is True)
        except (StoreAway, StoreRefused) as error:
            LOG.warning("send.not_noted", reason=str(error))
            return None
        if not reply:
            return None
        runner, _, rest = reply[1].partition(b"\0")
        return Found(reply[0].decode(), runner.decode(), rest.partition(b"\0")[2])

    async def _begin(self, digest: str, attempt: str, *, gone: str, sure: bool) -> list[bytes]:
        kept = int(_BEGUN_FOR * 1000)
        found: list[bytes] = await self._store.run(
            _BEGIN, [_key(digest)], [attempt, self._name, kept, gone, "1" if sure else "0"]
        )
        return found

    async def outcome(self, digest: str, found: Found) -> bytes | None:
        """Waits for it; None: the gateway that makes the attempt is gone, or its record. Raises like `Store`."""
        presence, outcome, looks = Presence(self._store, found.runner), found.outcome, 0
        while not outcome:
            looks += 1
            # One of this gateway's own that it knows no longer is being settled right now, or nobody ever will.
            if looks > _SETTLED_BY if found.runner == self._name else await presence.look() is False:
                return None
            await asyncio.sleep(_LOOK_EVERY)
            (record,) = await self._store.commands(("HGET", _key(digest), found.attempt))
            if record is None:
                return None
            outcome = record.split(b"\0", 2)[2]
        return outcome

    def note(
        self,
        digest: str,
        attempt: str,
        what: Literal["joined", "left", "goes_on", "ended", "given", "unread"],
        outcome: bytes = b"",
    ) -> None:
        """Nobody waits for it."""
        seconds = KEPT_FOR if what in ("ended", "unread") else _BEGUN_FOR
        arguments: list[str | int | bytes] = [attempt, self._name, int(seconds * 1000), what, outcome]
        noting = asyncio.create_task(self._note(_key(digest), arguments))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _note(self, key: str, arguments: list[str | int | bytes]) -> None:
        with suppress(StoreAway, StoreRefused):
            await self._store.run(_NOTE, [key], arguments)

    async def noted(self) -> None:
        """Until all of it is in the store, or cannot be."""
        await asyncio.gather(*self._noting)


def packed(outcome: Outcome) -> bytes:
    """As it is kept in the store. One that is too long is as good as unknown."""
    if isinstance(outcome, Refusal):
        return orjson.dumps({"refused": outcome.status, "detail": outcome.detail}) + b"\n"
    about = {
        "status": outcome.status,
        "lines": [line.decode("latin-1") for line in outcome.lines],
        "length": outcome.length,
    }
    found = orjson.dumps(about) + b"\n" + outcome.body
    return found if len(found) <= LARGEST else packed(UNKNOWN)


def unpacked(kept: bytes, head: RequestHead) -> Outcome:
    about, _, body = kept.partition(b"\n")
    fields: Mapping[str, object] = orjson.loads(about)
    status, lines, length = fields.get("status"), fields.get("lines"), fields.get("length")
    if not isinstance(status, int) or not isinstance(lines, list):
        refused = fields.get("refused")
        return Refusal(refused if isinstance(refused, int) else 504, str(fields.get("detail")))
    made = RecordedExchange(head, len(body))
    made.begin(
        status,
        [str(line).encode("latin-1") for line in lines],
        length if isinstance(length, int) else None,
        body,
        more=False,
    )
    return made


UNKNOWN = Refusal(
    504,
    "what became of an earlier attempt to send the same is not known, as the gateway that made it is gone or has no "
    "answer to it; after two minutes it is sent again",
)


def _key(digest: str) -> str:
    return f"sl:{{send:{binascii.crc_hqx(digest.encode(), 0) % _SLOTS:02d}}}:{digest}"
