"""The sessions of one worker: started and stopped by its membership, placed by gateways, asked by its API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

from sessions.worker.login import Login

DRAIN = 5.0
_MAX_WORKSPACES = 2000

Emit = Callable[[str, Mapping[str, Any]], None]
MakeLogin = Callable[[str, int, Emit, Callable[[], bool]], Login]
"""A login of a session under a fence, which tells its events, and acts while it may."""


class Events(Protocol):
    """What one session tells, in its order."""

    fence: int
    """Under which it runs now."""
    workspace: int | None
    on_accepted: Callable[[], None]

    def emit(self, event: str, data: Mapping[str, Any]) -> None: ...

    async def end(self, within: float) -> None:
        """What waits has so many seconds; then nothing is sent any more."""
        ...


class Sender(Protocol):
    """Takes all that sessions tell to the gateway."""

    def of(self, session: str, fence: int) -> Events: ...

    def counted(self) -> Mapping[str, Mapping[str, int]]:
        """How many of each event, by what became of them."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Running:
    login: Login
    events: Events


class Worker:
    """`make`: how its logins are made; `name`: its id in the registry; `drain`: seconds in which a session that has
    stopped may still send what waits."""

    def __init__(self, name: str, sender: Sender, make: MakeLogin, *, drain: float = DRAIN) -> None:
        self.name = name
        self.sender = sender
        self.fence_of: Callable[[str], int | None] | None = None
        """Where set (`Membership.fence_of`), asked before every act of a session."""
        self.accept: Callable[[str, int], bool] = lambda session, fence: True
        """`Membership.accept`: asked with each create and its fence; what it refuses does not run here."""
        self.on_gone: Callable[[str, int], object] = lambda session, fence: None
        """`Membership.end`: a person has ended it."""
        self._make = make
        self._drain = drain
        self._running: dict[str, Running] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of those that are being started or ended."""
        self._workspaces: dict[str, int] = {}
        self._closed = False

    def login(self, session: str) -> Login | None:
        running = self._running.get(session)
        return running.login if running is not None else None

    def logins(self) -> list[Login]:
        return [running.login for running in self._running.values()]

    def state(self, session: str) -> tuple[str, str | None, str | None]:
        """State, phone and reason; `starting` for one that does not run here yet."""
        login = self.login(session)
        return (login.state, login.phone, login.reason) if login is not None else ("starting", None, None)

    def may_act(self, session: str) -> bool:
        """Whether its lease stands at this very moment, even when the process was frozen meanwhile."""
        running = self._running.get(session)
        return running is not None and (self.fence_of is None or self.fence_of(session) == running.login.fence)

    def belongs_to(self, session: str, workspace: int) -> None:
        """As its create says."""
        while len(self._workspaces) >= _MAX_WORKSPACES:
            del self._workspaces[next(iter(self._workspaces))]
        self._workspaces[session] = workspace
        running = self._running.get(session)
        if running is not None:
            running.login.workspace = running.events.workspace = workspace

    async def start(self, session: str, fence: int) -> None:
        """Runs it from now on; one that runs already takes over a higher fence."""
        async with self._lock(session):
            running = self._run(session, fence)
            if running is not None and fence >= running.login.fence:
                running.login.fence = running.events.fence = fence

    async def place(self, session: str, fence: int) -> None:
        """By order of a gateway, if it is to run here and does not yet."""
        if self.accept(session, fence):
            async with self._lock(session):
                self._run(session, fence)

    async def stop(self, session: str) -> None:
        """Ends it here, as it goes on elsewhere: no act and no new event from now on."""
        await self._end(session)

    async def end_for_good(self, session: str) -> None:
        """A person has ended it: its login is given back, and it is forgotten."""
        login = self.login(session)
        if login is not None:
            fence = login.fence
            await self._end(session, log_out=True)
            self.on_gone(session, fence)

    async def close(self) -> None:
        """Ends all sessions, and starts none any more."""
        self._closed = True
        await asyncio.gather(*(self.stop(session) for session in {*self._running, *self._locks}))
        await self.sender.close()

    def _run(self, session: str, fence: int) -> Running | None:
        if self._closed:
            return None
        running = self._running.get(session)
        if running is None:
            events = self.sender.of(session, fence)
            login = self._make(session, fence, events.emit, lambda: self.may_act(session))
            login.workspace = self._workspaces.get(session, login.workspace)
            events.workspace, events.on_accepted = login.workspace, login.was_accepted
            running = self._running[session] = Running(login, events)
        return running

    async def _end(self, session: str, *, log_out: bool = False) -> None:
        async with self._lock(session):
            running = self._running.pop(session, None)
            if running is not None:
                await running.login.end(log_out=log_out)
                await running.events.end(self._drain)

    def _lock(self, session: str) -> asyncio.Lock:
        lock = self._locks.get(session)
        if lock is None:
            lock = self._locks[session] = asyncio.Lock()
        return lock
