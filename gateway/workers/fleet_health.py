"""The health of all workers together, in the form in which one of them tells its own.

Laravel drops incoming messages while `sessions.connected` is 0, and takes any answer but a 2xx for a session's end:
so this is always a 200, and a worker that does not answer in time counts with what it said last. None of them is asking
for `/health/live`, which in the existing workers always fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from gateway.problems import Send, answer_json
from gateway.workers.fleet import Fleet
from sessions.keys import strange
from sessions.registry import Registry, WorkerRow
from sluice.http import client as http1, foreign_json
from sluice.store.client import StoreAway, StoreRefused

_WITHIN = 2.0  # seconds; Laravel waits 5
_STORE_WITHIN = 0.5
_BELIEVED_FOR = 1.0
_AT_ONCE = 64
_MAX_ANSWER = 64 * 1024
_MAX_KNOWN = 4096
_MAX_NAMES, _MAX_NAME = 16, 64
_KEPT_FOR = 4.0  # seconds; Node keeps a connection for 5
_HEADERS = ((b"User-Agent", b"Sluice"), (b"Accept", b"application/json"), (b"Accept-Encoding", b"identity"))
_COUNTED = ("total", "connected", "disconnected")


@dataclass(frozen=True, slots=True)
class _Said:
    """What a worker said of itself."""

    sessions: Mapping[str, int]
    uptime: float
    memory: Mapping[str, float]
    at: float
    """`time.monotonic`."""


@dataclass(frozen=True, slots=True)
class _Joined:
    workers: Sequence[tuple[str, bool, _Said | None]] = ()
    """Name, whether it answered in time, and what it said, perhaps earlier."""
    sessions: Mapping[str, int] = field(default_factory=dict)
    as_of: float = float("-inf")

    @property
    def answered(self) -> int:
        return sum(answered for _, answered, _ in self.workers)


class FleetHealth:
    """One look a second, however many ask."""

    restore = 600.0
    """Seconds for which a worker that does not answer counts with what it said last."""

    def __init__(self, fleet: Fleet, registry: Registry) -> None:
        self._fleet = fleet
        self._registry = registry
        self._pools: dict[str, http1.Pool] = {}
        """By the address of a worker that is asked now."""
        self._known: dict[str, _Said] = {}
        self._connected = 0
        """What the registry said last."""
        self._joined = _Joined()
        self._lock = asyncio.Lock()
        self._began = time.monotonic()

    async def answer(self, segments: Sequence[str], send: Send) -> int:
        """`segments`: what stands behind `/health`."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        segments = [segment.lower() for segment in segments]
        if segments == ["live"]:
            await answer_json(send, 200, {"alive": True, "timestamp": now})
            return 200
        joined = await self._look()
        workers = {"total": len(joined.workers), "answered": joined.answered}
        shown: dict[str, Any] = {"timestamp": now}
        if segments == ["ready"]:
            shown |= {"ready": joined.answered > 0, "checks": {"workers": workers}}
        else:
            said = [said for _, _, said in joined.workers if said is not None]
            shown |= {
                "status": "healthy" if joined.answered or not joined.workers else "degraded",
                "uptime": max((one.uptime for one in said), default=time.monotonic() - self._began),
                "sessions": joined.sessions,
                "memory": _sum([one.memory for one in said]),
                "workers": workers if segments != ["detailed"] else _in_detail(joined),
            }
        await answer_json(send, 200, shown)
        return 200

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()

    async def _look(self) -> _Joined:
        async with self._lock:
            if time.monotonic() - self._joined.as_of >= _BELIEVED_FOR:
                self._joined = await self._ask_all()
            return self._joined

    async def _ask_all(self) -> _Joined:
        rows = [row for row in await self._fleet.workers() if row.beat_left > 0 or row.worker in self._known]
        with contextlib.suppress(StoreAway, StoreRefused, TimeoutError):
            async with asyncio.timeout(_STORE_WITHIN):
                self._connected = (await self._registry.summary()).connected
        answers = await self._answers(rows)
        self._note(answers)
        for gone in self._pools.keys() - {row.url for row in rows}:
            await self._pools.pop(gone).close()
        known = [(row.worker, row.worker in answers or not row.existing, self._known.get(row.worker)) for row in rows]
        sessions = {name: sum(said.sessions[name] for *_, said in known if said) for name in _COUNTED}
        if not all(said for *_, said in known):
            # Of a worker that has said nothing yet only the registry knows.
            sessions["connected"] = max(sessions["connected"], self._connected)
            sessions["total"] = max(sessions["total"], sum(row.sessions for row in rows))
        return _Joined(known, sessions, time.monotonic())

    async def _answers(self, rows: Sequence[WorkerRow]) -> dict[str, _Said]:
        """Of those that answer in time."""
        turns = asyncio.Semaphore(_AT_ONCE)
        asking = {row.worker: asyncio.create_task(self._ask(row, turns)) for row in rows}
        if asking:
            _, late = await asyncio.wait(asking.values(), timeout=_WITHIN)
            for task in late:
                task.cancel()
        done = {worker: task.result() for worker, task in asking.items() if task.done() and not task.cancelled()}
        return {worker: said for worker, said in done.items() if said is not None}

    def _note(self, answers: Mapping[str, _Said]) -> None:
        for worker, said in answers.items():
            self._known.pop(worker, None)
            self._known[worker] = said
        oldest = time.monotonic() - self.restore
        for worker in [worker for worker, said in self._known.items() if said.at < oldest]:
            del self._known[worker]
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]

    async def _ask(self, row: WorkerRow, turns: asyncio.Semaphore) -> _Said | None:
        pool = self._pools.get(row.url)
        if pool is None:
            pool = http1.Pool(http1.Origin.of(row.url), connect=_WITHIN, idle=_KEPT_FOR, refuse=strange)
            self._pools[row.url] = pool
        target, headers = http1.base_path(row.url) + b"/health", [(b"Host", pool.origin.authority), *_HEADERS]
        async with turns:
            try:
                status, _, body = await http1.exchange(
                    pool, b"GET", target, headers, b"", timeout=_WITHIN, most=_MAX_ANSWER + 1
                )
            except http1.UpstreamError:
                return None
        return _said(body) if 200 <= status < 300 and len(body) <= _MAX_ANSWER else None


def _said(body: bytes) -> _Said | None:
    """None: it is not the form of the contract, as an own worker's may be."""
    try:
        shown = foreign_json.loads(body)
        sessions = {name: _count(shown["sessions"][name]) for name in _COUNTED}
    except (KeyError, TypeError, ValueError):
        return None
    memory = shown.get("memory")
    numbers = _numbers(memory) if isinstance(memory, dict) else {}
    uptime = shown.get("uptime")
    return _Said(sessions, uptime if _is_number(uptime) else 0.0, numbers, time.monotonic())


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**6:
        raise ValueError("not a number of sessions")
    return value


def _numbers(memory: Mapping[str, Any]) -> Mapping[str, float]:
    """The contract has four; each worker's are kept."""
    shown = ((name, value) for name, value in memory.items() if _is_number(value) and len(name) <= _MAX_NAME)
    return dict(islice(shown, _MAX_NAMES))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in each:
        for name, value in one.items():
            total[name] = total.get(name, 0) + value
    return total


def _in_detail(joined: _Joined) -> list[dict[str, Any]]:
    return [
        {"worker": worker, "answered": answered, "sessions": said.sessions if said else None}
        for worker, answered, said in joined.workers
    ]
