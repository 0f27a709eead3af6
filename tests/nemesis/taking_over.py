"""How long after `kill -9` of a worker of ours its sessions are answered by another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.nemesis.fleet import KEY, OWN, fleet
from tests.nemesis.run import created

_LONGEST = 60.0
_AGAIN = 0.05


async def taking_over(folder: Path, free_port: Callable[[], int], *, kills: int, own: int = 30) -> list[float]:
    """Seconds from a kill to the first answer, of each session that the killed worker had. `own`: sessions."""
    async with (
        fleet(folder, free_port, accounts=0) as made,
        httpx2.AsyncClient(base_url=made.gateways[2], trust_env=False, timeout=_LONGEST) as client,
    ):
        sessions = await created(made, own)
        took: list[float] = []

        async def owner_of(session: str) -> str | None:
            answer = await client.get(f"/api/sessions/{session}/metadata", params={"api_key": KEY})
            return answer.headers.get("x-demo-worker") if answer.status_code == 200 else None

        async def answered_by_another(session: str, victim: str, since: float) -> None:
            async with asyncio.timeout(_LONGEST):
                while await owner_of(session) in (None, victim):
                    await asyncio.sleep(_AGAIN)
            took.append(time.monotonic() - since)

        for number in range(kills):
            victim = OWN[number % len(OWN)]
            its = [session for session in sessions if await owner_of(session) == victim]
            await made.own[victim].kill()
            killed = time.monotonic()
            await asyncio.gather(*(answered_by_another(session, victim, killed) for session in its))
            await made.own[victim].start()
            await made.own_is_back(victim)
        return took
