"""The store fails over under load, again and again; what was promised with `replica` must all be there in the end.

Two stores and a sentinel. In turn, the master is cut off (frozen, so that it neither answers nor replicates, and wakes
up later as a master that nobody follows), or its replica is cut off for a while and the master killed right after.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from redis.exceptions import RedisError

from gateway.policies import load
from tests.e2e.account import Account
from tests.e2e.bad_receiver import bad_receiver, sessions
from tests.e2e.chaos import producing
from tests.e2e.deployment import SECRETS, Deployment, deployment
from tests.sluice.store.store_servers import Server
from tests.waiting import until

_UNDER_LOAD = (1.0, 2.0)  # seconds between two failovers
_CUT_OFF = 1.0
_SESSIONS = 12
_LONGEST = 30.0


class Stores:
    """Two of them, and a sentinel that decides alone."""

    def __init__(self, folder: Path, free_port: Callable[[], int]) -> None:
        for name in ("one", "two", "watch"):
            (folder / name).mkdir()
        soon = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "5", "--appendonly", "yes")
        one = Server(folder / "one", free_port(), *soon)
        two = Server(folder / "two", free_port(), *soon, "--replicaof", "127.0.0.1", str(one.port))
        settings = folder / "watch" / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor mymaster 127.0.0.1 {one.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 2000\n"
        )
        self.sentinel = Server(folder / "watch", free_port(), settings=settings)
        self._servers = {one.port: one, two.port: two}
        self.url = f"redis+sentinel://127.0.0.1:{self.sentinel.port}/mymaster/0"

    async def start(self) -> None:
        for server in (*self._servers.values(), self.sentinel):
            server.start()
        await until(lambda: self._told_of_a_replica(), timeout=_LONGEST, what="the sentinel to find the replica")
        await self.whole()

    def stop(self) -> None:
        for server in (*self._servers.values(), self.sentinel):
            server.kill()

    @property
    def master(self) -> Server:
        _, port = self.sentinel.tell("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return self._servers[int(port)]

    @property
    def replica(self) -> Server:
        master = self.master
        (other,) = (server for server in self._servers.values() if server is not master)
        return other

    def _told_of_a_replica(self) -> bool:
        return bool(self.sentinel.tell("INFO", "sentinel")["master0"]["slaves"] == 1)

    async def whole(self) -> None:
        """Until the replica follows the master."""

        def follows() -> bool:
            try:
                about = self.replica.tell("INFO", "replication")
            except (RedisError, OSError):
                return False
            return about["role"] == "slave" and about["master_link_status"] == "up"

        await until(follows, timeout=_LONGEST, what="the replica to follow the master")

    async def cut_off_the_master(self) -> None:
        before = self.master
        before.freeze()
        await self._until_another_than(before)
        await asyncio.sleep(_CUT_OFF)  # it goes on elsewhere, while this one still believes that it is the master
        before.thaw()
        await self.whole()

    async def cut_off_the_replica_and_kill_the_master(self) -> None:
        before, replica = self.master, self.replica
        replica.freeze()
        await asyncio.sleep(_CUT_OFF)
        replica.thaw()
        before.kill()
        await self._until_another_than(before)
        before.start()
        await self.whole()

    async def _until_another_than(self, before: Server) -> None:
        def promoted() -> bool:
            return self.master is not before and self.master.tell("ROLE")[0] == b"master"

        await until(promoted, timeout=_LONGEST, what="the replica to be promoted")


async def failover(folder: Path, free_port: Callable[[], int], *, failovers: int, seed: int) -> Account:
    """Ends once everything accepted was delivered. Raises AssertionError if that takes too long."""
    chance, account = random.Random(seed), Account()
    ports = (free_port(), free_port())
    async with (
        _running(Stores(folder, free_port)) as stores,
        bad_receiver(ports[1], account, random.Random(seed + 1)) as calm,
        deployment(folder, ports) as deployed,
    ):
        await _start(deployed, stores)
        async with producing(deployed, sessions(_SESSIONS, ()), account):
            for number in range(failovers):
                await asyncio.sleep(chance.uniform(*_UNDER_LOAD))
                if number % 2:
                    account.kills["master, its replica cut off before"] += 1
                    await stores.cut_off_the_replica_and_kill_the_master()
                else:
                    account.kills["master cut off"] += 1
                    await stores.cut_off_the_master()
                await _more_answered(account)
        calm.set()
        await until(deployed.drained, timeout=60, what=f"everything to be delivered: {account}")
    return account


async def _more_answered(account: Account) -> None:
    before = len(account.answered)
    await until(lambda: len(account.answered) > before, timeout=_LONGEST, what="events to be accepted")


async def _start(deployed: Deployment, stores: Stores) -> None:
    text = deployed.file.read_text().replace("rate: 3000/minute, burst: 500", "rate: 60000/minute, burst: 10000")
    text = text.replace("store: {promise: second}", f'store: {{url: "{stores.url}", promise: replica}}')
    deployed.file.write_text(text)
    deployed.policies = load(deployed.file, environment=SECRETS)
    for kind in ("gateway", "relay"):
        await deployed.sluice(kind)
    await until(deployed.ready, timeout=_LONGEST, what=f"gateway and relay; they said:\n{deployed.said()}")


@asynccontextmanager
async def _running(stores: Stores) -> AsyncIterator[Stores]:
    try:
        await stores.start()
        yield stores
    finally:
        stores.stop()
