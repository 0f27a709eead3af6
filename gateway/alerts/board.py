"""What all gateways know of alerts, in the store: what is wrong and who was told, silences, and what was told lately.

A gateway changes it by `keep`, made from the newest revision; whoever had an older one reads first. `Memory` is its
form, `merged` what becomes of two that were changed at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import orjson

from gateway.alerts.decide import Alert, Alerts, Event, Found, Key, Silence
from sluice.store.client import Arg, Store, load_script

_LEADER, _BOARD = "sl:{alerts}:leader", "sl:{alerts}:board"
_SILENCES, _HISTORY = "sl:{alerts}:silences", "sl:{alerts}:history"
_MACHINES = "sl:{alerts}:machines"
KEY_PATTERNS = (_LEADER, _BOARD, _SILENCES, _HISTORY, _MACHINES)
MAX_SILENCES, MAX_HISTORY = 100, 200
_MAX_MACHINES, _MAX_REPORTED = 200, 100
_MAX_TEXT = 1000  # characters
_REPORT_COUNTS, _REPORT_AGAIN = 60.0, 4.0
"""Seconds for which a machine's report counts, and after which it is to be made anew."""
_LEAD = load_script("gateway.alerts", "lead", drains=True)
_KEEP = load_script("gateway.alerts", "keep", drains=True)
_SILENCE = load_script("gateway.alerts", "silence", drains=True)
_REPORT = load_script("gateway.alerts", "report", drains=True)
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """How it goes with a receiver. Moments are unix seconds."""

    taken_at: float | None = None
    """When it took the last message."""
    failing_since: float | None = None
    """None: it took the last one, or has not had any."""
    failures: int = 0
    """One after the other."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    alerts: Alerts = field(default_factory=dict)
    receivers: Mapping[str, ReceiverState] = field(default_factory=dict)
    """Those that were sent something; `heartbeat`, too."""

    def encode(self) -> bytes:
        alerts = [asdict(one) for one in self.alerts.values()]
        return orjson.dumps(
            {
                "machines": [one.pop("machine") for one in alerts],  # apart, as version 0.1.0 knows nothing of them
                "alerts": alerts,
                "receivers": {name: asdict(one) for name, one in self.receivers.items()},
            }
        )


@dataclass(frozen=True, slots=True)
class Notification:
    """One entry of the history."""

    at: float
    receiver: str
    event: Event
    kind: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    leads: bool
    now: float
    """Unix seconds, by the time of the scripts."""
    revision: int
    memory: Memory | None
    """None: it is that of the revision that was known."""
    silences: tuple[Silence, ...]
    elsewhere: tuple[Found, ...] = ()
    """What is wrong on other machines, as they have reported it; for whoever leads."""
    reports: bool = False
    """Who leads is elsewhere, and wants to hear what is wrong on this machine."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one gateway knows."""

    memory: Memory
    silences: tuple[Silence, ...]
    stands_in: bool
    """The store is away, and this process tells what goes wrong on its machine."""
    now: float
    """Unix seconds."""


def decode(text: bytes) -> Memory:
    """What cannot be read, as another version wrote it, is left out."""
    try:
        found = orjson.loads(text)
        machines = found.get("machines") or [""] * len(found["alerts"])
        alerts = [Alert(**one, machine=at) for one, at in zip(found["alerts"], machines, strict=True)]
        receivers = {str(name): ReceiverState(**one) for name, one in found["receivers"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return Memory()
    return Memory({one.key: one for one in alerts}, receivers)


def merged(base: Memory, mine: Memory, theirs: Memory) -> Memory:
    """What of `mine` differs from `base`, from which it was made, counts; of all else `theirs` does."""
    alerts: dict[Key, Alert] = _merged(base.alerts, mine.alerts, theirs.alerts)
    return Memory(alerts, _merged(base.receivers, mine.receivers, theirs.receivers))


def _merged(base: Mapping[K, V], mine: Mapping[K, V], theirs: Mapping[K, V]) -> dict[K, V]:
    found = dict(theirs)
    for key in base.keys() | mine.keys():
        if mine.get(key) != base.get(key):
            found.pop(key, None)
            if key in mine:
                found[key] = mine[key]
    return found


class Board:
    """`name`: of this process; no two that run have the same. Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, name: str, machine: str) -> None:
        self._store = store
        self._name = name
        self.machine = machine

    async def read(self, lead_for: float, revision: int) -> Reading:
        """`lead_for`: seconds; 0: it does not lead. `revision`: the one that is known."""
        times = round(_REPORT_COUNTS * 1000), round(_REPORT_AGAIN * 1000)
        args = (self._name, round(lead_for * 1000), revision, self.machine, *times)
        keys = (_LEADER, _BOARD, _SILENCES, _MACHINES)
        leads, now, newest, text, silences, reports, due = await self._store.run(_LEAD, keys, args)
        known = int(newest) == revision
        memory = None if known else decode(text)
        elsewhere = tuple(found for report in reports for found in _reported(report))
        return Reading(leads == 1, int(now) / 1000, int(newest), memory, _silences(silences), elsewhere, due == 1)

    async def report(self, found: Sequence[Found]) -> None:
        """What is wrong on this machine, for whoever leads on another one."""
        text = orjson.dumps([_of_report(one) for one in found[:_MAX_REPORTED]])
        args = (self.machine, text, _MAX_MACHINES, round(_REPORT_COUNTS * 1000))
        await self._store.run(_REPORT, (_MACHINES,), args)

    async def keep(self, revision: int, text: bytes, notified: Sequence[Notification]) -> int:
        """The new revision; 0: there is a newer one, so nothing was done."""
        args: tuple[Arg, ...] = (revision, text, MAX_HISTORY, *(orjson.dumps(asdict(one)) for one in notified))
        return int(await self._store.run(_KEEP, (_BOARD, _HISTORY), args))


async def silence(store: Store, kind: str, subject: str, made: Silence | None) -> int:
    """None: it ends. 1: done; 0: there was none; -1: there are too many. Raises StoreAway or StoreRefused."""
    name = orjson.dumps([kind, subject])
    return int(
        await store.run(_SILENCE, (_SILENCES,), (name, orjson.dumps(asdict(made)) if made else b"", MAX_SILENCES))
    )


async def look(store: Store) -> tuple[Memory, tuple[Silence, ...], tuple[Notification, ...]]:
    """What is remembered, the silences, and what was told last, the newest first. Raises StoreAway or StoreRefused."""
    text, silences, history = await store.commands(
        ("HGET", _BOARD, "text"), ("HVALS", _SILENCES), ("LRANGE", _HISTORY, 0, MAX_HISTORY - 1)
    )
    found = (_entry(one) for one in history)
    return decode(text or b""), _silences(silences), tuple(one for one in found if one is not None)


def _of_report(found: Found) -> dict[str, object]:
    """A value that is infinite is left out: JSON has none."""
    value = {} if found.value == float("inf") else {"value": found.value}
    texts = {"subject": found.subject[:_MAX_TEXT], "text": found.text[:_MAX_TEXT]}
    return {"kind": found.kind, **texts, "machine": found.machine, **value}


def _reported(text: bytes) -> list[Found]:
    """What cannot be read, as another version wrote it, is left out."""
    try:
        return [Found(**one) for one in orjson.loads(text)]
    except (orjson.JSONDecodeError, TypeError):
        return []


def _silences(found: Sequence[bytes]) -> tuple[Silence, ...]:
    read = (_loaded(one) for one in found)
    return tuple(sorted((one for one in read if one is not None), key=lambda one: (one.kind, one.subject)))


def _loaded(text: bytes) -> Silence | None:
    try:
        return Silence(**orjson.loads(text))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _entry(text: bytes) -> Notification | None:
    try:
        return Notification(**orjson.loads(text))
    except (orjson.JSONDecodeError, TypeError):
        return None
