"""A session goes to another worker with its login, and never runs at two: real browsers, workers and stores.

`benchmarks/browser_failover.py` does it fifty times, under more traffic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sessions.profiles.in_use import use_of
from tests.failover.deployment import WITHIN, Deployment, deployment
from tests.failover.kills import WRITTEN, kills_of
from tests.failover.moves import moved
from tests.ports import free_ports
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LEASE = 6.0


@pytest.fixture(scope="module")
async def lasting() -> AsyncIterator[Deployment]:
    with TemporaryDirectory(prefix="sluice-", dir="/tmp") as folder, free_ports() as free_port:
        async with deployment(Path(folder), free_port, lease=LEASE) as made:
            yield made


@pytest.fixture
async def made(lasting: Deployment) -> AsyncIterator[Deployment]:
    """With both workers and no session, whatever became of the test before."""
    yield lasting
    await lasting.clear()


async def test_a_login_that_is_300_ms_old_goes_to_another_machine_and_then_through_kills(made: Deployment) -> None:
    """Where a lock of a third machine lies in the folder of the profile."""
    await made.create("s1", "628111")
    await made.whatsapp.scan("628111")
    await until(lambda: made.whatsapp.connected_since("628111"), timeout=WITHIN)
    scanned = made.whatsapp.connected_since("628111")
    assert scanned is not None
    owner, fence, _ = await made.owner("s1")
    assert owner is not None
    assert fence is not None
    (other,) = made.workers.keys() - {owner}
    profile = made.profile("s1", other)
    profile.mkdir(parents=True)
    (profile / "SingletonLock").symlink_to("another-machine-4711")
    await asyncio.sleep(max(0.0, scanned + 0.3 - time.monotonic()))
    print(f"the login is {time.monotonic() - scanned:.2f} s old")
    move = await moved(made, "s1")
    print(move)
    assert 0.0 < move.granted < move.opened < move.connected
    assert ((await made.owner("s1"))[1] or 0) > fence
    assert made.heard("s1", "qr_code_generated") == []
    assert made.whatsapp.overlaps() == []
    assert use_of(profile).state == "in_use"

    await made.start_beside("w3", other)
    outcome = await kills_of(made, ["s1"], kills=2, messages=20)
    print(outcome)
    assert outcome.wrong == []
    assert (outcome.kills, outcome.adopted) == (2, 2)
    assert (outcome.sends, outcome.incoming) == (20, 20)


async def test_a_worker_that_is_frozen_has_no_browser_when_its_lease_ends(made: Deployment) -> None:
    owner, pid = await _running(made, "s2", "628222")
    made.workers[owner].freeze()
    ends = time.monotonic() + (await made.shown("s2"))["lease_left"]
    await until(lambda: not _runs(pid), timeout=WITHIN)
    assert time.monotonic() < ends
    assert made.workers[owner].alive
    made.workers[owner].thaw()

    async def is_back() -> bool:
        workers = (await made.status())["workers"]
        return any(row["worker"] == owner and not row["lost"] for row in workers)

    await until(is_back, timeout=WITHIN)
    assert made.whatsapp.overlaps() == []


async def test_no_browser_runs_while_nobody_can_hold_a_lease(made: Deployment) -> None:
    """The store is frozen; afterwards each session is where it was, or elsewhere, with its login."""
    _, pid = await _running(made, "s3", "628333")
    frozen = time.monotonic()
    made.store.freeze()
    await until(lambda: not _runs(pid), timeout=WITHIN)
    assert time.monotonic() - frozen < LEASE
    made.store.thaw()
    await until(lambda: (made.whatsapp.connected_since("628333") or 0.0) > frozen, timeout=WITHIN)
    assert made.heard("s3", "qr_code_generated") == []
    assert made.whatsapp.overlaps() == []


async def _running(made: Deployment, session: str, phone: str) -> tuple[str, int]:
    """Its worker, and its browser's first process; all of its login is on the disk."""
    await made.paired(session, phone)
    await asyncio.sleep(WRITTEN)
    owner, _, _ = await made.owner(session)
    assert owner is not None
    return owner, use_of(made.profile(session, owner)).pid


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False
