"""Events accepted per second over HTTP by one gateway process: verified, stored, answered 202."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from proxy.generator import Result, Task

from relaying.body import body
from relaying.site import Site, site
from sluice.http.signatures import sign

RATE = 4000.0
_CONNECTIONS = 64
_WARMUP = 1.0
_FASTEST = 12_000  # a second; more than can be accepted, so that no request is sent twice
_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class Accepted:
    """CPU in microseconds for each, latency in milliseconds at `RATE` a second."""

    rate: float
    cpu_us: float
    store_us: float
    p50: float
    p95: float
    p99: float
    failed: int
    unanswered: int
    """At the end; more than this machine has time for came in."""


def measure(folder: Path, seconds: float) -> Accepted:
    with site(folder) as there, there.process("gateway") as pid:
        closed = _load(there, pid, seconds, None)
        paced = _load(there, pid, seconds, RATE)
    each = 1e6 / max(1, closed.answered)
    return Accepted(
        *(closed.answered / closed.seconds, closed.cpu["gateway"] * each, closed.cpu["store"] * each),
        *(paced.p50 or 0.0, paced.p95 or 0.0, paced.p99 or 0.0, closed.failed + paced.failed, paced.unanswered),
    )


_sequences = count()


def _load(there: Site, pid: int, seconds: float, rate: float | None) -> Result:
    posts = there.folder / "posts"
    events = int((rate or _FASTEST) * (seconds + _WARMUP) * 1.1)
    with posts.open("wb") as file:
        for number in range(events):
            one = post(there, number % _SESSIONS, next(_sequences))
            file.write(b"%d\n%b" % (len(one), one))
    watched = {"gateway": pid, "store": there.server.pid}
    task = Task(there.port, "", _CONNECTIONS, seconds, _WARMUP, rate, watched, str(posts))
    done = subprocess.run(
        ["taskset", "-c", str(there.cores.store), sys.executable, "-m", "proxy.generator"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input=json.dumps(asdict(task)).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return Result(**json.loads(done.stdout))


def post(there: Site, session: int, sequence: int) -> bytes:
    """A webhook as a worker sends it, signed now."""
    now = time.time()
    content = body(session, sequence, now)
    lines = [b"%b: %b\r\n" % pair for pair in sign(there.policies.signatures["workers"], content, now)]
    head = b"POST /api/webhooks HTTP/1.1\r\nHost: sluice.test\r\nContent-Type: application/json\r\n"
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, b"".join(lines), len(content), content)
