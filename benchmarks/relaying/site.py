"""One Sluice for a measurement: store and receiver on one core, gateway or relay on the other."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from limiting.store import Cores, Store as Server, store
from proxy.processes import NotReady, free_port, started, tail

from gateway.policies import Policies, load
from relay.process import open_queue
from relay.queue.codec import Event
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue
from relaying.body import SIZE, body
from relaying.receiver import Counts
from sluice.process.addresses import base_url
from sluice.store.client import Store

ROOT = Path(__file__).parent.parent.parent
SECRET = "the-secret-of-the-benchmark"
_READY_WITHIN = 20.0
_AT_ONCE = 512

_POLICIES = """
version: 1
listen: 127.0.0.1:{port}
data: {folder}
store: {{url: "{store}", promise: second}}
signatures:
  workers: {{preset: blazz, secret: env:BENCHMARK_SECRET}}
  laravel: {{preset: blazz, secret: env:BENCHMARK_SECRET}}
routes:
  - path: /api/webhooks
    methods: [POST]
    verify: workers
    event: {{json: /event}}
    session: {{json: /data/session_id}}
    relay: laravel
relay:
  backlog: {{bytes: 8GiB, events: 4000000}}
  endpoints:
    laravel:
      url: http://127.0.0.1:{receiver}/ok
      sign: laravel
      timeout: 10s
      concurrency: {concurrency}
      circuit: {{minimum: {minimum}, ratio: 1}}
    hangs:
      url: http://127.0.0.1:{receiver}/hang
      sign: laravel
      events: [none_by_itself]
      timeout: 5s
      concurrency: 50
"""


@dataclass(frozen=True, slots=True)
class Receiver:
    port: int
    pid: int

    def counts(self) -> Counts:
        return self._ask("counts")

    def forget(self) -> Counts:
        return self._ask("reset")

    def _ask(self, what: str) -> Counts:
        with urlopen(f"http://127.0.0.1:{self.port}/{what}", timeout=10) as answer:
            return Counts(**json.load(answer))


@dataclass(frozen=True, slots=True)
class Site:
    folder: Path
    cores: Cores
    server: Server
    receiver: Receiver
    policies: Policies

    @property
    def port(self) -> int:
        return urlsplit(base_url(self.policies.listen)).port or 0

    @contextmanager
    def process(self, kind: str) -> Iterator[int]:
        """`sluice gateway` or `sluice relay` on the first core, its log in a file; its process id."""
        command = [sys.executable, "-P", "-m", "sluice", kind, "--policies", str(self.policies.source)]
        environment = {"BENCHMARK_SECRET": SECRET, "SLUICE_LOGS": str(self.folder / "logs")}
        log = self.folder / f"{kind}.log"
        with started(command, self.cores.process, log, cwd=ROOT, env=environment) as process:
            if kind == "gateway":
                self._wait_for_gateway(process, log)
            yield process.pid

    def _wait_for_gateway(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while not _answers(f"http://127.0.0.1:{self.port}/_sluice/healthz"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"the gateway did not start: {tail(log)}")
            time.sleep(0.05)

    def queue(self, store: Store, endpoint: str = "laravel") -> Queue:
        return open_queue(store, self.policies.relay.endpoints[endpoint], self.policies)

    def fill(
        self, events: int, *, endpoint: str = "laravel", sessions: int = 1000, first: int = 0, size: int = SIZE
    ) -> None:
        """Puts events into the queue, in order for each of `sessions` from `first` on."""
        asyncio.run(self._fill(events, endpoint, sessions, first, size))

    async def _fill(self, events: int, endpoint: str, sessions: int, first: int, size: int) -> None:
        connection = Store(self.server.url, timeout=10.0)
        inbox, place = Inbox(connection), self.queue(connection, endpoint).destination
        for start in range(0, events, _AT_ONCE):
            numbers = range(start, min(events, start + _AT_ONCE))
            await asyncio.gather(
                *(inbox.accept(_event(first + n % sessions, n // sessions, size), [place]) for n in numbers)
            )
        await connection.close()


def _event(session: int, sequence: int, size: int) -> Event:
    return Event(
        id=f"evt_{session:05d}{sequence:08d}{os.urandom(6).hex()}",
        type="message_received",
        session=f"s{session:05d}",
        target=b"/api/webhooks",
        headers=((b"Content-Type", b"application/json"),),
        body=body(session, sequence, size=size),
        lane="normal",
    )


@contextmanager
def site(folder: Path, *, concurrency: int = 50, minimum: int = 10) -> Iterator[Site]:
    cores = Cores.of_this_machine()
    folder.mkdir()
    with store(folder / "store", cores.store) as server, receiving(cores.store) as receiver:
        file = folder / "policies.yaml"
        known = {"port": free_port(), "folder": folder / "data", "store": server.url, "receiver": receiver.port}
        file.write_text(_POLICIES.format(**known, concurrency=concurrency, minimum=minimum))
        policies = load(file, environment={"BENCHMARK_SECRET": SECRET})
        yield Site(folder, cores, server, receiver, policies)


@contextmanager
def receiving(core: int) -> Iterator[Receiver]:
    process = subprocess.Popen(
        ["taskset", "-c", str(core), sys.executable, "-m", "relaying.receiver"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield Receiver(int(process.stdout.readline()), process.pid)
    finally:
        process.kill()
        process.communicate()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
