"""A steady load for a long time, with faults: does anything grow that should not, and what is left in the store?

The gateway and the relay live through all of it, so that what they leak is seen. Workers are killed and started again,
sessions come and go, clients break off, the store stops for a while, and the receiver is bad to some, at times to all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.policies import load
from sluice.process.addresses import store_url
from sluice.process.loops import Stop
from tests.e2e.account import Account
from tests.e2e.bad_receiver import bad_receiver, sessions
from tests.e2e.chaos import producing
from tests.e2e.deployment import SECRETS, Deployment, deployment
from tests.test_store_keys import documented
from tests.waiting import until

WATCHED = ("gateway", "relay", "store")
_BAD = ("missing-phases", "expired-phases", "hanging-phases", "throttled-phases")
_WAITING = "sl:{*}:laravel:queue"
_SAMPLE_EVERY = 2.0  # seconds
_FAULT_EVERY = (3.0, 8.0)
_STORE_STOPS_FOR = 1.0
_KEPT = "20s"  # of what was delivered, so that it stops growing soon
_DRAINED_WITHIN = 180.0
_FORGOTTEN_WITHIN = 120.0
_ONE = "one for the whole store"
_FOR_EACH_ENDPOINT = "one for each endpoint and partition"
_PROCESSES = "one entry for each process that runs, which its end or its lease takes out"
_RINGS = "rings of a fixed size"
_BY_ENTRY = "its entries leave one by one when they are too old"
STAYS = {
    "sl:clock:{<slot>}": "one for each slot",
    "sl:{layout}": _ONE,
    "sl:{<nn>}:seq": "one for each partition",
    "sl:{<nn>}:endpoints": "one for each partition",
    "sl:{<nn>}:dedupe": _BY_ENTRY,
    "sl:{<nn>}:fences": _BY_ENTRY,
    "sl:{<nn>}:<endpoint>:counts": _FOR_EACH_ENDPOINT,
    "sl:{<endpoint>}:circuit": "one for each endpoint",
    "sl:endpoints-searched": _ONE,
    "sl:relays": _PROCESSES,
    "sl:{gateways}": _PROCESSES,
    "sl:{sessions}:fleet": _PROCESSES,
    "sl:{sessions}:live": _PROCESSES,
    "sl:{sessions}:room": _PROCESSES,
    "sl:{sessions}:dropped": _PROCESSES,
    "sl:{sessions}:starting": _PROCESSES,
    "sl:{sessions}:forgotten": _BY_ENTRY,
    "sl:{sessions}:active": _BY_ENTRY,
    "sl:{sessions}:fence": _ONE,
    "sl:{sessions}:numbers": _ONE,
    "sl:{sessions}:changes": "the newest thousand",
    "sl:{sessions}:watcher": _ONE,
    "sl:{sessions}:cleaner": _ONE,
    "sl:{sessions}:scaler": _ONE,
    "sl:{sessions}:scaling": _ONE,
    "sl:{history}:writers": _PROCESSES,
    "sl:{history}:series": _RINGS,
    "sl:{history}:hour": _RINGS,
    "sl:{history}:day": _RINGS,
    "sl:{history}:fortnight": _RINGS,
}
"""Families without an expiry that may be there when nothing waits and nobody has a session: why they do not grow."""


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    """Seconds since the load began."""
    memory: dict[str, int]
    """Bytes of each watched process (RSS); of the store what its data takes."""
    files: dict[str, int]
    waiting: int
    """Events; what waits takes memory of the store."""


@dataclass(slots=True)
class Soaked:
    account: Account = field(default_factory=Account)
    samples: list[Sample] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    """Keys that are left in the end without an expiry, of families that may not stay, or of none: how many of each."""

    def memory_moved(self, name: str) -> float:
        """By which part the memory of the last third differs from that of the third before (medians)."""
        return self._moved([sample.memory[name] for sample in self.samples])

    def files_grew(self, name: str) -> int:
        """How many more descriptors it had open in the quietest moment of the last third than of the one before."""
        _, second, third = _thirds([sample.files[name] for sample in self.samples])
        return min(third) - min(second)

    def _moved(self, values: list[int]) -> float:
        _, second, third = _thirds(values)
        return statistics.median(third) / statistics.median(second) - 1


def _thirds(values: list[int]) -> tuple[list[int], list[int], list[int]]:
    third = len(values) // 3
    return values[:third], values[third : 2 * third], values[2 * third :]


async def soak(folder: Path, ports: tuple[int, int], *, seconds: float, load_of: int, seed: int) -> Soaked:
    """`load_of`: sessions of which each has some six events a second. Raises AssertionError when it does not end."""
    chance, soaked = random.Random(seed), Soaked()
    async with bad_receiver(ports[1], soaked.account, random.Random(seed + 1)) as calm, deployment(folder, ports) as it:
        await _start(it)
        async with producing(it, sessions(load_of, _BAD), soaked.account):
            stop = Stop()
            async with asyncio.TaskGroup() as beside:
                beside.create_task(_trouble(it, chance, soaked, stop))
                beside.create_task(_sample(it, soaked, stop))
                await asyncio.sleep(seconds)
                stop.request()
        calm.set()
        await until(it.drained, timeout=_DRAINED_WITHIN, what=lambda: f"everything to be delivered: {soaked.account}")
        await _look_at_what_is_left(it, soaked)
    return soaked


async def _start(it: Deployment) -> None:
    text = it.file.read_text()
    text = text.replace("rate: 3000/minute, burst: 500", "rate: 600000/minute, burst: 100000")
    text = text.replace("rate: 1000/minute, burst: 200", "rate: 6000/minute, burst: 2000")
    retry = "      retry: {base: 200ms, cap: 2s, attempts: 10000}\n"
    text = text.replace("      timeout: 1s\n", "      timeout: 1s\n" + retry)
    text = text.replace("  lanes:", f"  dedupe: {_KEPT}\n  retention: {{delivered: {_KEPT}}}\n  lanes:")
    it.file.write_text(text)
    it.policies = load(it.file, environment=SECRETS)
    await it.start_up("--workers", "2")


async def _trouble(it: Deployment, chance: random.Random, soaked: Soaked, stop: Stop) -> None:
    """One fault after the other, each to its end."""
    faults: dict[str, Callable[[], object]] = {
        "worker killed": lambda: it.kill_child(f"demo-{chance.randint(1, 2)}"),
        "store stopped": lambda: _stop_for_a_while(_pid_of(it, "store")),
        "client broke off": lambda: _break_off(it),
        "session came and went": lambda: _come_and_go(it, f"guest-{chance.randrange(10**6)}"),
    }
    while await stop.sleep(chance.uniform(*_FAULT_EVERY)):
        name = chance.choice(list(faults))
        done = faults[name]()
        if asyncio.iscoroutine(done):
            await done
        soaked.faults[name] = soaked.faults.get(name, 0) + 1


async def _stop_for_a_while(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(_STORE_STOPS_FOR)
    finally:
        os.kill(pid, signal.SIGCONT)


async def _break_off(it: Deployment) -> None:
    """In the middle of a head, of a body, and with an answer under way."""
    host, port = "127.0.0.1", int(it.gateway.rpartition(":")[2])
    for said in (
        b"GET / HT",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nhalf",
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(said)
        await writer.drain()
        writer.transport.abort()


async def _come_and_go(it: Deployment, session: str) -> None:
    """What of it is refused meanwhile, as a worker was killed, is tried again at the end."""
    async with httpx2.AsyncClient(base_url=it.gateway, trust_env=False, timeout=15) as client:
        with contextlib.suppress(httpx2.HTTPError):
            await client.post("/api/sessions", json={"session_id": session, "workspace_id": 1, "api_key": "k"})
            await client.get(f"/api/sessions/{session}/status")
            await client.delete(f"/api/sessions/{session}")


async def _sample(it: Deployment, soaked: Soaked, stop: Stop) -> None:
    began, waiting = time.monotonic(), 0
    pids = {name: _pid_of(it, name) for name in WATCHED}
    async with Redis.from_url(store_url(it.policies)) as redis:
        while await stop.sleep(_SAMPLE_EVERY):
            memory = {name: _rss(pid) for name, pid in pids.items()}
            with contextlib.suppress(RedisError, OSError):
                memory["store"] = int((await redis.info("memory"))["used_memory"])
                waiting = sum([await redis.zcard(key) async for key in redis.scan_iter(_WAITING)])
            files = {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}
            soaked.samples.append(Sample(time.monotonic() - began, memory, files, waiting))


async def _look_at_what_is_left(it: Deployment, soaked: Soaked) -> None:
    """Once all sessions are forgotten and what was kept for a while is gone."""
    rows = [row for row in documented() if not row.is_channel]
    async with Redis.from_url(store_url(it.policies)) as redis:

        async def found() -> dict[str, int]:
            left: dict[str, int] = {}
            async for key in redis.scan_iter("*", count=1000):
                family = next((row.pattern for row in rows if row.matches(key.decode())), f"nobody's: {key.decode()}")
                if family not in STAYS and await redis.ttl(key) == -1:
                    left[family] = left.get(family, 0) + 1
            return left

        async def nothing() -> bool:
            await _forget_all(it)
            soaked.left = await found()
            return not soaked.left

        with contextlib.suppress(AssertionError):
            await until(nothing, timeout=_FORGOTTEN_WITHIN)


async def _forget_all(it: Deployment) -> None:
    async with httpx2.AsyncClient(base_url=it.gateway, trust_env=False, timeout=15) as client:
        with contextlib.suppress(httpx2.HTTPError):
            for row in (await client.get("/api/sessions")).json()["sessions"]:
                await client.delete(f"/api/sessions/{row['session_id']}")


def _pid_of(it: Deployment, name: str) -> int:
    said = {"store": "valkey-server", "gateway": " gateway", "relay": " relay"}[name]
    found = [
        pid for pid in it.family() if said in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    ]
    (pid,) = found
    return pid


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
