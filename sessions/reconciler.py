"""What a worker runs is made to be what it is given: one session's start and stop never overlap, and few start at once.

given ──▶ waiting for a place ──▶ being started ──▶ runs ──▶ being stopped
             │ at most `start_at_once` sessions are being started
             └── not given any more: nothing has to be stopped
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from sluice.observe.log import Log

LOG = Log("sessions.membership")
_START_WITHIN = 60.0
"""Seconds after which the next one is started, though this one has not ended."""


class Reconciler:
    """`start(session, fence)` and `stop(session)` run one at a time for each session, and may take long.

    A start that raises is tried again when the session is given again. `start_at_once`: the most sessions that are
    being started at a time, so that a fleet's sessions do not fall upon one machine all at once.
    """

    def __init__(
        self,
        worker: str,
        start: Callable[[str, int], Awaitable[object]],
        stop: Callable[[str], Awaitable[object]],
        start_at_once: int,
    ) -> None:
        self._worker = worker
        self._start, self._stop = start, stop
        self._start_at_once = start_at_once
        self._given: dict[str, int] = {}
        self.running: dict[str, int] = {}
        """The fence of each session that is started, is being started, or is being stopped."""
        self._starting: set[str] = set()
        self._waiting: dict[str, None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def fence_of(self, session: str) -> int | None:
        """The fence under which it is given and runs, else None."""
        fence = self._given.get(session)
        return fence if self.running.get(session) == fence else None

    @property
    def pending(self) -> dict[str, int]:
        """Those that are being started or wait until they are, each with its fence."""
        waiting = {session: self._given[session] for session in self._waiting}
        return waiting | {session: self.running[session] for session in self._starting}

    def run_exactly(self, sessions: Mapping[str, int]) -> None:
        """From now on these, each under its fence."""
        self._given = dict(sessions)
        self._waiting.clear()
        for session in (*self._given, *(self.running.keys() - self._given.keys())):
            self._reconcile(session)
        self._begin_waiting()

    def is_given(self, session: str, fence: int) -> bool:
        return self._given.get(session) == fence

    def begin(self, session: str, fence: int) -> bool:
        """Gives it one more; it need not wait for others to be started, as somebody waits for an answer about it.

        False: it is given or still runs under another fence, or is being stopped.
        """
        if session in self.running or session in self._tasks:
            return self.fence_of(session) == fence
        if self._given.setdefault(session, fence) != fence:
            return False
        self._waiting.pop(session, None)
        self._start_now(session)
        return True

    def end(self, session: str) -> None:
        self._given.pop(session, None)
        self._reconcile(session)
        self._begin_waiting()

    async def changed(self, timeout: float) -> None:
        """Waits until a start or stop is over, `timeout` seconds at most."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def settled(self, timeout: float) -> bool:
        """Waits until no session is being started or stopped, `timeout` seconds at most."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=timeout)
        return not self._tasks

    def _reconcile(self, session: str) -> None:
        self._waiting.pop(session, None)
        if session in self._tasks or self._given.get(session) == self.running.get(session):
            return
        if session in self.running:
            self._tasks[session] = asyncio.create_task(self._until_stopped(session))
        else:
            self._waiting[session] = None

    def _begin_waiting(self) -> None:
        while self._waiting and len(self._starting) < self._start_at_once:
            session = next(iter(self._waiting))
            del self._waiting[session]
            self._start_now(session)

    def _start_now(self, session: str) -> None:
        self._starting.add(session)
        fence = self.running[session] = self._given[session]
        self._tasks[session] = asyncio.create_task(self._until_started(session, fence))

    async def _until_started(self, session: str, fence: int) -> None:
        impatience = asyncio.get_running_loop().call_later(_START_WITHIN, self._give_place, session)
        try:
            if not await self._survives("session.start_failed", session, self._start(session, fence)):
                self.running.pop(session)
                if self._given.get(session) == fence:
                    del self._given[session]  # until it is given again
        finally:
            impatience.cancel()
            self._ended(session)

    async def _until_stopped(self, session: str) -> None:
        try:
            await self._survives("session.stop_failed", session, self._stop(session))
            self.running.pop(session)
        finally:
            self._ended(session)

    def _ended(self, session: str) -> None:
        """Its start or stop is over; what was given meanwhile is seen to."""
        del self._tasks[session]
        self._starting.discard(session)
        self._reconcile(session)
        self._begin_waiting()

    def _give_place(self, session: str) -> None:
        LOG.warning("session.start_takes_long", worker=self._worker, session=session, seconds=_START_WITHIN)
        self._starting.discard(session)
        self._begin_waiting()

    async def _survives(self, failure: str, session: str, work: Awaitable[object]) -> bool:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - one session's failure must not end the others
            LOG.error(failure, exception=error, worker=self._worker, session=session)
            return False
        return True
