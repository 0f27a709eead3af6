"""The limiter: one decision over all buckets of a request, exact across processes.

Concurrent requests of a process share a call of `take.lua`. When the store does not answer in time, each limit's
`when_store_away` decides, and for a moment nobody waits for the store again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import orjson

from gateway import metrics
from gateway.limits.applicable import GIVE_BACK, OBSERVE, PREFIX, Bucket
from gateway.limits.charges import Charges
from gateway.limits.decide import HAD, LACKS, PASS, REFUSES, Decision, conclude, outcome
from gateway.limits.denial_cache import DenialCache
from gateway.limits.local import LocalBuckets
from gateway.limits.take import SLOW, TAKE, slots_of, take_arguments
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused
from sluice.store.protocol.errors import Full
from sluice.store.shared_calls import SharedCalls

LOG: Final = Log("gateway")
_SHARED, _WAITING = 64, 10_000
_AWAY_FOR: Final = 0.25  # seconds between two tries while the store is away


class _Answer:
    """Of `take.lua` for one request. `asked_at`: monotonic, before it was asked; the waits are in seconds."""

    __slots__ = ("asked_at", "delay", "levels", "marks", "refused_for")

    def __init__(self, marks: str, refused_for: float, delay: float, levels: list[float], asked_at: float) -> None:
        self.marks = marks
        self.refused_for = refused_for
        self.delay = delay
        self.levels = levels
        self.asked_at = asked_at


class Limiter:
    """`gateways`: how many of them share what is counted in processes while the store is away."""

    def __init__(self, store: Store) -> None:
        self.gateways = 1
        self._store = store
        self._calls: dict[str, SharedCalls[list[Bucket], _Answer]] = {}
        self._denials = DenialCache()
        self._local = LocalBuckets()
        self._charges = Charges(store, self._local)
        self._away_until = 0.0
        self._away = False
        self._probing = False

    @property
    def slots(self) -> list[str]:
        """Some key of each slot that has buckets."""
        return [PREFIX, *(slot + "}" for slot in self._calls)]

    async def take(self, buckets: list[Bucket]) -> Decision:
        """What it costs from every bucket, or nothing from any. Never raises for an absent store."""
        if not buckets:
            return PASS
        now = time.monotonic()
        if now < self._away_until or self._probing:
            return self._without_store(buckets, now)
        denied = self._denials.find(buckets, now)
        if denied:
            return await self._denied_again(buckets, denied)
        probes = self._probing = self._away  # one finds out whether the store is back; nobody waits with it
        try:
            if probes:
                await self._make_up()
            answer = await self._ask(buckets)
        except (StoreAway, StoreRefused):
            return self._without_store(buckets, time.monotonic())
        except Full as error:
            self._went_away(error)
            return self._without_store(buckets, time.monotonic())
        finally:
            if probes:
                self._probing = False
        if self._away:
            self._away = False
            LOG.info("limiter.store_back")
        return self._decided(buckets, answer)

    async def settle(self) -> None:
        """Charges the store with what passed here without it, also where no request comes. For a loop; never raises."""
        if not self._charges.waiting or self._probing or time.monotonic() < self._away_until:
            return
        self._probing = self._away
        try:
            await self._make_up()
        except (StoreAway, StoreRefused):
            pass  # the next run tries again
        finally:
            self._probing = False

    def denies(self) -> bool:
        """Some bucket was used up lately, so that it makes sense to ask `denied`."""
        return self._denials.denies(time.monotonic())

    async def denied(self, buckets: list[Bucket]) -> Decision | None:
        """The decision on a request that these buckets refuse for sure; None: that is not known."""
        now = time.monotonic()
        denied = self._denials.find(buckets, now) if now >= self._away_until else None
        return await self._denied_again(buckets, denied) if denied else None

    def forget(self) -> None:
        """What was refused under other policies."""
        self._denials.forget()

    async def _denied_again(self, buckets: list[Bucket], denied: list[tuple[int, float]]) -> Decision:
        """Without asking the store, but for the limits that only observe: they count each request."""
        observing = [bucket for bucket in buckets if bucket.mode == OBSERVE]
        if observing:
            await self.take(observing)
        marks, longest, levels = [LACKS] * len(buckets), 0.0, [0.0] * len(buckets)
        for i, seconds in denied:
            marks[i] = REFUSES
            longest = max(longest, seconds)
            levels[i] = buckets[i].cost - seconds / buckets[i].interval
        decision = conclude(buckets, "".join(marks), longest, 0.0, levels)
        for i, _ in denied:
            metrics.decided(buckets[i].limit.id, outcome(decision, buckets[i], i) or "")
        return decision

    def _decided(self, buckets: Sequence[Bucket], answer: _Answer) -> Decision:
        levels = answer.levels
        decision = conclude(buckets, answer.marks, answer.refused_for, answer.delay, levels)
        refused, now = decision.verdict != "pass", time.monotonic()
        for i, bucket in enumerate(buckets):
            done = outcome(decision, bucket, i)
            if done is not None:
                metrics.decided(bucket.limit.id, done)
            # One that has just given its last token refuses the next request.
            self._denials.saw(bucket, levels[i], answer.asked_at, now, refused=refused)
            if bucket.mode != OBSERVE and bucket.limit.when_store_away == "local":
                self._local.saw(bucket, levels[i], now)
        return decision

    async def _ask(self, buckets: list[Bucket]) -> _Answer:
        """One call; on a cluster one for each slot, side by side. What some took and others refused is given back."""
        parts = slots_of(buckets)
        if len(parts) == 1:
            return await self._calls_of(*parts).ask(buckets)
        by_slot = [(self._calls_of(slot), part) for slot, part in parts.items()]
        answers = await asyncio.gather(*(calls.ask(part) for calls, part in by_slot), return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        answered = [answer for answer in answers if not isinstance(answer, BaseException)]
        if failed or any(REFUSES in answer.marks for answer in answered):
            await asyncio.gather(
                *(
                    calls.ask([replace(bucket, mode=GIVE_BACK) for bucket in part if bucket.mode != OBSERVE])
                    for (calls, part), answer in zip(by_slot, answers, strict=True)
                    if not isinstance(answer, BaseException) and REFUSES not in answer.marks
                ),
                return_exceptions=True,
            )
        if failed:
            raise failed[0]
        return _joined(buckets, list(parts.values()), answered)

    def _calls_of(self, slot: str) -> SharedCalls[list[Bucket], _Answer]:
        found = self._calls.get(slot)
        if found is None:
            found = self._calls[slot] = SharedCalls(self._take_all, size=_SHARED, waiting=_WAITING)
        return found

    async def _take_all(self, requests: Sequence[list[Bucket]]) -> list[_Answer]:
        asked_at = time.monotonic()
        if asked_at < self._away_until:
            raise StoreAway("the call before this one failed")  # waits must not add up
        try:
            rows = orjson.loads(await self._store.run(TAKE, *take_arguments(requests)))
        except (StoreAway, StoreRefused) as error:
            self._went_away(error)
            raise
        pace = SLOW if len(rows) > len(requests) else 1.0
        self._denials.pace = pace
        rows = rows[: len(requests)]
        return [_Answer(row[0], row[1] / 1e6 * pace, row[2] / 1e6, row[3:], asked_at) for row in rows]

    def _went_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + _AWAY_FOR
        if not self._away:
            self._away = True
            LOG.error("limiter.store_away", reason=str(error) or type(error).__name__)

    async def _make_up(self) -> None:
        """If the store is there, it is charged with what passed here without it. Raises StoreAway or StoreRefused.

        A plain question goes first: what a store that is stopped has been asked to take it takes when it goes on.
        """
        try:
            await self._store.ping()
            await self._charges.send()
        except (StoreAway, StoreRefused) as error:
            self._went_away(error)
            raise

    def _without_store(self, buckets: Sequence[Bucket], now: float) -> Decision:
        """What the limits say while the store is away; `local` ones are counted in this process, all or nothing too."""
        for bucket in buckets:
            metrics.decided_without_store(bucket.limit.id)
        enforced = [bucket for bucket in buckets if bucket.mode != OBSERVE]
        for bucket in enforced:
            if bucket.limit.when_store_away == "deny":
                return Decision("unavailable", bucket.limit.id, retry_after=1.0, violated=(bucket.limit.id,))
        local = [bucket for bucket in enforced if bucket.limit.when_store_away == "local"]
        decision = self._local.take(local, now, self.gateways)
        return replace(decision, levels=_levels_told(buckets, local, decision, self.gateways))


def _levels_told(buckets: Sequence[Bucket], local: Sequence[Bucket], decision: Decision, parts: int) -> Sequence[float]:
    """Of the buckets that refuse the level that is as far from their cost, at the whole rate, as this process's part is
    at its part of the rate. Empty without a refusal: not all levels are known then."""
    if decision.verdict == "pass":
        return ()
    levels = {bucket.key: level for bucket, level in zip(local, decision.levels, strict=True)}
    return [bucket.cost - (bucket.cost - levels.get(bucket.key, 0.0)) * parts for bucket in buckets]


def _joined(buckets: Sequence[Bucket], parts: Sequence[Sequence[Bucket]], answers: Sequence[_Answer]) -> _Answer:
    """As if one call had decided them all."""
    marks, levels = [HAD] * len(buckets), [0.0] * len(buckets)
    places = {bucket.key: i for i, bucket in enumerate(buckets)}
    refused = any(REFUSES in answer.marks for answer in answers)
    for part, answer in zip(parts, answers, strict=True):
        gave_back = refused and REFUSES not in answer.marks
        for i, bucket in enumerate(part):
            place = places[bucket.key]
            marks[place] = answer.marks[i] if answer.marks else HAD
            levels[place] = answer.levels[i] + (bucket.cost if gave_back and bucket.mode != OBSERVE else 0)
    lacking = any(answer.marks for answer in answers)
    refused_for = max(answer.refused_for for answer in answers)
    delay = 0.0 if refused else max(answer.delay for answer in answers)
    asked_at = min(answer.asked_at for answer in answers)
    return _Answer("".join(marks) if lacking else "", refused_for, delay, levels, asked_at)
