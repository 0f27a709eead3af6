"""What a worker runs is made to be what it is given: one session's start and stop never overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from sluice.observe.log import Log

LOG = Log("sessions.membership")


class Reconciler:
    """`start(session, fence)` and `stop(session)` run one at a time for each session, and may take long.

    A start that raises is tried again when the session is given again.
    """

    def __init__(
        self,
        worker: str,
        start: Callable[[str, int], Awaitable[object]],
        stop: Callable[[str], Awaitable[object]],
    ) -> None:
        self._worker = worker
        self._start, self._stop = start, stop
        self._given: dict[str, int] = {}
        self.running: dict[str, int] = {}
        """The fence of each session that is started, is being started, or is being stopped."""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def fence_of(self, session: str) -> int | None:
        """The fence under which it is given and runs, else None."""
        fence = self._given.get(session)
        return fence if self.running.get(session) == fence else None

    def run_exactly(self, sessions: Mapping[str, int]) -> None:
        """From now on these, each under its fence."""
        self._given = dict(sessions)
        for session in self._given.keys() | self.running.keys():
            self._reconcile(session)

    def end(self, session: str) -> None:
        self._given.pop(session, None)
        self._reconcile(session)

    async def settled(self, timeout: float) -> bool:
        """Waits until no session is being started or stopped, `timeout` seconds at most."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=timeout)
        return not self._tasks

    def _reconcile(self, session: str) -> None:
        if session not in self._tasks and self._given.get(session) != self.running.get(session):
            self._tasks[session] = asyncio.create_task(self._until_right(session))

    async def _until_right(self, session: str) -> None:
        try:
            while self._given.get(session) != self.running.get(session):
                if session in self.running:
                    await self._survives("session.stop_failed", session, self._stop(session))
                    self.running.pop(session)
                else:
                    fence = self.running[session] = self._given[session]
                    if not await self._survives("session.start_failed", session, self._start(session, fence)):
                        self.running.pop(session)
                        return
        finally:
            del self._tasks[session]

    async def _survives(self, failure: str, session: str, work: Awaitable[object]) -> bool:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - one session's failure must not end the others
            LOG.error(failure, exception=error, worker=self._worker, session=session)
            return False
        return True
