"""What passed while the store was away is charged to it when it is back: each batch once, however often it is sent.

A batch whose answer was lost is sent again with its number, which the store has noted if it took it. What a process has
not sent when it ends nobody charges any more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gateway.limits.applicable import DELAY
from gateway.limits.local import Charge, LocalBuckets
from gateway.limits.take import TAKE, slot_of
from sluice.observe.log import Log
from sluice.store.client import Store, StoreRefused

LOG = Log("gateway")
KEY_PATTERNS = ("sl:{l}:charged:<gateway>", "sl:{l:<limit>}:charged:<gateway>")
_MOST = 256  # buckets in one batch


@dataclass(frozen=True, slots=True)
class _Call:
    keys: list[str]
    argument: bytes


class Charges:
    def __init__(self, store: Store, local: LocalBuckets) -> None:
        self._store = store
        self._local = local
        self._name = secrets.token_hex(8)
        self._number = 0
        self._unconfirmed: list[_Call] = []

    @property
    def waiting(self) -> bool:
        return bool(self._unconfirmed) or self._local.owing > 0

    async def send(self) -> None:
        """All that waits now; what comes meanwhile waits for the next time. Raises StoreAway or StoreRefused."""
        await self._confirm()
        for _ in range(0, self._local.owing, _MOST):
            self._number += 1
            self._unconfirmed = self._calls(self._local.owed(time.monotonic(), _MOST))
            await self._confirm()

    async def _confirm(self) -> None:
        while self._unconfirmed:
            call = self._unconfirmed[0]
            try:
                await self._store.run(TAKE, call.keys, [call.argument])
            except StoreRefused as error:  # it took nothing, and would not the next time
                LOG.error("limiter.charge_refused", reason=str(error))
            del self._unconfirmed[0]

    def _calls(self, charges: Sequence[Charge]) -> list[_Call]:
        """One for each slot."""
        slots: dict[str, list[Charge]] = {}
        for charge in charges:
            slots.setdefault(slot_of(charge.bucket), []).append(charge)
        return [self._call(slot, part) for slot, part in slots.items()]

    def _call(self, slot: str, charges: Sequence[Charge]) -> _Call:
        keys = [charge.bucket.key for charge in charges]
        numbers = [(charge.bucket.interval * 1e6, charge.bucket.burst) for charge in charges]
        # As from a queue: they are taken whether they are there or not.
        coded = [(4 * (i + 1) + DELAY, -charge.tokens) for i, charge in enumerate(charges)]
        request = {"buckets": numbers, "requests": coded, "batch": self._number}
        return _Call([*keys, f"{slot}}}:charged:{self._name}"], orjson.dumps(request))
