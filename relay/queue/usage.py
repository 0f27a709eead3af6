"""What waits for an endpoint in each partition, as this process has last seen it.

The backlog is one for all partitions, which are slots of a cluster: no script sees two of them. Each accept is told
what the others held, and answers what its own holds now; what is seen of the others is read along with it now and then,
and before an answer that depends on it (`lua/accept.lua`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from relay.queue.layout import PARTITIONS, own_key
from sluice.store.client import Arg

_FRESH = 0.05
"""Seconds in which what was seen may still decide that an endpoint is full."""
_MAX_AGE = 1.0
_EVENTS_PER_SECOND, _BYTES_PER_SECOND = 500_000, 2**31
"""The older it is the more may have come since: a backlog that takes a second to fill at this speed is looked at once a
second, a smaller one more often."""
_PER_PARTITION = 2


class Usage:
    """Of one endpoint; all zero until a `Look` has been read. `now`: monotonic seconds."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._events = [0] * PARTITIONS
        self._bytes = [0] * PARTITIONS
        self._looked_at = -math.inf
        """When all partitions were last seen; some may have been seen since."""

    def is_due(self, max_events: int, max_bytes: int, now: float) -> bool:
        """Whether it is time to look at all partitions. The arguments are the most that may wait."""
        age = min(_MAX_AGE, max_events / _EVENTS_PER_SECOND, max_bytes / _BYTES_PER_SECOND)
        return now - self._looked_at > age

    def budget(
        self, partition: int, most: tuple[int, int], is_required: bool, is_final: bool, now: float
    ) -> tuple[int, int, str]:
        """What `accept.lua` is told: up to how many events and bytes it need not look further, and the budget."""
        max_events, max_bytes = most
        events, size = self._events[partition], self._bytes[partition]
        other_events, other_bytes = sum(self._events) - events, sum(self._bytes) - size
        here_events, here_bytes = max_events - other_events, max_bytes - other_bytes
        how = "final" if is_final else "fresh" if now - self._looked_at <= _FRESH else "seen"
        budget = (
            f"{max_events} {max_bytes} {other_events} {other_bytes} {events} {size} {how} "
            f"{'required' if is_required else 'optional'}"
        )
        if is_final:
            return here_events, here_bytes, budget
        return events + (here_events - events) // PARTITIONS, size + (here_bytes - size) // PARTITIONS, budget

    def note(self, partition: int, events: int, size: int) -> None:
        self._events[partition], self._bytes[partition] = events, size


class Look:
    """At the partitions of an endpoint that an accept does not tell of; after it, all have been seen."""

    def __init__(self, usage: Usage, answering: Collection[int] = ()) -> None:
        self._usage = usage
        self._partitions = [partition for partition in range(PARTITIONS) if partition not in answering]

    def commands(self) -> list[tuple[Arg, ...]]:
        commands: list[tuple[Arg, ...]] = []
        for partition in self._partitions:
            commands.append(("ZCARD", own_key(self._usage._endpoint, partition, "queue")))
            commands.append(("HGET", own_key(self._usage._endpoint, partition, "counts"), "bytes"))
        return commands

    def read(self, answers: Sequence[int | bytes | None], now: float) -> int:
        """`answers` begin with those to `commands`. Returns how many these were."""
        for i, partition in enumerate(self._partitions):
            events, size = answers[_PER_PARTITION * i], answers[_PER_PARTITION * i + 1]
            self._usage.note(partition, int(events or 0), int(size or 0))
        self._usage._looked_at = now
        return _PER_PARTITION * len(self._partitions)


def commands_of(looks: Sequence[Look]) -> list[tuple[Arg, ...]]:
    return [command for look in looks for command in look.commands()]


def read_all(looks: Sequence[Look], answers: Sequence[int | bytes | None], now: float) -> None:
    """`answers`: those to `commands_of`. `now`: before they were asked for."""
    at = 0
    for look in looks:
        at += look.read(answers[at:], now)
