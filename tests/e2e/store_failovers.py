"""Stores of several servers that fail over, again and again, and wait until they are whole again.

In turn, a master is cut off (frozen, so that it neither answers nor replicates, and wakes up later as a master that
nobody follows), or its replica is cut off for a while and the master killed before it is back.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from redis.exceptions import RedisError

from tests.sluice.store.store_deployments import Servers, follows
from tests.sluice.store.store_servers import Server
from tests.waiting import until

_CUT_OFF = 1.0
_LONGEST = 60.0


class Failovers:
    def __init__(self, servers: Servers, chance: random.Random) -> None:
        self._servers = servers
        self._chance = chance

    async def next(self, done: Counter[str]) -> None:
        """One more, which is counted."""
        await self.whole()
        master = self._chance.choice([server for server in self._servers.all if _is_master(server)])
        (replica,) = (server for server in self._servers.all if _master_of(server) == master.port)
        if done.total() % 2:
            done["master, its replica cut off before"] += 1
            await self._cut_off_the_replica_and_kill(master, replica)
        else:
            done["master cut off"] += 1
            await self._cut_off(master, replica)

    async def whole(self) -> None:
        """Until each master has a replica that follows it, and nobody waits for a failover."""

        def is_whole() -> bool:
            masters = {server.port for server in self._servers.all if _is_master(server)}
            followed = [_master_of(server) for server in self._servers.all if follows(server)]
            return sorted(followed) == sorted(masters) and 2 * len(masters) == len(self._servers.all)

        await until(is_whole, timeout=_LONGEST, what="each master to have a replica")

    async def _cut_off(self, master: Server, replica: Server) -> None:
        master.freeze()
        await _promoted(replica)
        await asyncio.sleep(_CUT_OFF)  # it goes on elsewhere, while this one still believes that it is the master
        master.thaw()
        await self.whole()

    async def _cut_off_the_replica_and_kill(self, master: Server, replica: Server) -> None:
        replica.freeze()
        # What is written from now on waits for it in no socket either, so that it is lost with the master.
        master.tell("CLIENT", "KILL", "TYPE", "replica")
        await asyncio.sleep(_CUT_OFF)
        master.kill()
        replica.thaw()
        await _promoted(replica)
        master.start()
        await self.whole()


async def _promoted(replica: Server) -> None:
    await until(lambda: _is_master(replica), timeout=_LONGEST, what="the replica to be promoted")


def _is_master(server: Server) -> bool:
    try:
        return bool(server.tell("ROLE")[0] == b"master")
    except (RedisError, OSError):
        return False


def _master_of(server: Server) -> int:
    """Its port, as a replica sees it; 0: it is none."""
    try:
        role = server.tell("ROLE")
    except (RedisError, OSError):
        return 0
    return int(role[2]) if role[0] == b"slave" else 0
