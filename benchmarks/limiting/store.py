"""One embedded store for a whole benchmark, and what it tells of itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.processes import NotReady, cpu_seconds, started
from redis import Redis
from redis.exceptions import RedisError

from sluice.store import embedded

_READY_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Cores:
    process: int
    store: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first two that we may use; the same one twice where there is only one."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1 % len(usable)])


@dataclass(frozen=True, slots=True)
class Store:
    url: str
    pid: int
    client: Redis

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        return cpu_seconds(self.pid)

    def calls(self) -> int:
        """Scripts it was asked to run so far. Of those who send one at a time each is a round trip."""
        told = self.client.info("commandstats")
        return sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha", "fcall"))

    def used_memory(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def now(self) -> float:
        """Its own clock, in seconds."""
        seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    def empty(self) -> None:
        self.client.flushall()


@contextmanager
def store(folder: Path, core: int) -> Iterator[Store]:
    """As `sluice up` starts it, with `promise: second`."""
    embedded.make_folders(folder)
    url = embedded.url(folder)
    command = embedded.command(folder, "second")
    with started(command, core, folder / "store.log") as process, Redis.from_url(url) as client:
        deadline = time.monotonic() + _READY_WITHIN
        while not _answers(client):
            if time.monotonic() > deadline or process.poll() is not None:
                raise NotReady(f"the store did not start: {(folder / 'store.log').read_text()[-500:]}")
            time.sleep(0.02)
        yield Store(url, process.pid, client)


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False
