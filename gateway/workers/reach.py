"""Brings a request to the worker that has its session, or holds it for a bounded time while none does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from gateway.problems import Refusal
from gateway.workers.connections import Answer, WorkerConnections
from gateway.workers.fleet import Fleet
from gateway.workers.holding import Holding
from gateway.workers.owners import Owners, target_at
from gateway.workers.request import WorkerRequest
from gateway.workers.target import Target
from sessions.registry import LastOwner, Owner, Registry, Unknown, Unowned
from sluice.http.server import Exchange
from sluice.store.client import StoreAway, StoreRefused

_TRIES = 8
HOLD_AT_MOST = 25.0
"""Seconds; Laravel waits for 30."""
_OVER_A_LEASE = 5.0
HOLD_FOR_NOBODY = 5.0
"""Seconds while there is no worker at all."""


Why = Literal["unowned", "no_worker", "store_away"]


@dataclass(frozen=True, slots=True)
class Unreached:
    """No worker was asked, or none that was asked has the session."""

    why: Why
    refusal: Refusal


T = TypeVar("T")
Ask = Callable[[Target], Awaitable[T | None]]
"""What comes of asking this worker; None: it is not the one."""


class Reach:
    def __init__(
        self, registry: Registry, owners: Owners, fleet: Fleet, connections: WorkerConnections, holding: Holding
    ) -> None:
        self.hold = min(HOLD_AT_MOST, registry.lease + _OVER_A_LEASE)
        """Seconds: a worker that was killed is followed by another within a lease."""
        self._owners = owners
        self._fleet = fleet
        self._connections = connections
        self._holding = holding

    async def answer(self, request: WorkerRequest, *, cut: bool = True, hold: float | None = None) -> Answer:
        """The head of an answer. Raises Refusal (503; 404 where no worker knows the session), NoAnswer or ClientGone.

        `cut` False: a client that goes away does not end the question, once it is asked.
        """
        target = self._owners.target_of(request.session)
        if target is not None:  # the usual way, without what only the others need
            answer = await self._ask(target, request, cut=cut)
            if answer is not None:
                return answer
            self._owners.doubt(request.session)
        ask = self._asking(request, cut=cut)
        return await self.through(request.session, ask, size=request.size, exchange=request.exchange, hold=hold)

    async def attempt(self, request: WorkerRequest, *, cut: bool = True) -> Answer | Unreached:
        """Without waiting for anybody. A worker that turns out not to have the session, or refuses the connection, is
        followed by whoever has it by now."""
        return await self._attempt(request.session, self._asking(request, cut=cut))

    async def once(self, session: str, ask: Ask[T]) -> T | Unreached:
        """What comes of asking whoever has the session, without waiting for anybody. Raises Refusal."""
        return await self._attempt(session, ask)

    async def through(
        self, session: str, ask: Ask[T], *, size: int = 0, exchange: Exchange | None = None, hold: float | None = None
    ) -> T:
        """What comes of asking whoever has the session, by then. Raises Refusal and ClientGone."""
        reached = await self._attempt(session, ask)
        if not isinstance(reached, Unreached):
            return reached
        seconds = HOLD_FOR_NOBODY if reached.why == "no_worker" else self.hold
        if hold is not None:
            seconds = min(seconds, hold)
        with self._holding.waiting(session, size, seconds, exchange) as waiting:
            while await waiting.again():
                reached = await self._attempt(session, ask)
                if not isinstance(reached, Unreached):
                    return reached
        raise reached.refusal

    def _asking(self, request: WorkerRequest, *, cut: bool) -> Ask[Answer]:
        return lambda target: self._ask(target, request, cut=cut)

    def _ask(self, target: Target, request: WorkerRequest, *, cut: bool) -> Awaitable[Answer | None]:
        outgoing, exchange, session = request.outgoing, request.exchange, request.session
        return self._connections.ask(target, outgoing, exchange, request.timeout, cut=cut, session=session)

    async def _attempt(self, session: str, ask: Ask[T]) -> T | Unreached:
        tried: list[Target] = []
        known = True
        while len(tried) < _TRIES:
            try:
                known, target = await self._target(session, tried)
            except (StoreAway, StoreRefused):
                away = Refusal(503, "who owns the session is not known right now", retry_after=b"1")
                return Unreached("store_away", away)
            if target is None or target in tried:
                break
            answer = await ask(target)
            if answer is not None:
                return answer
            tried.append(target)
            self._owners.doubt(session)
        if known:
            detail = f"no worker runs session {session} right now"
            why: Why = "store_away" if self._owners.away else "unowned"
            return Unreached(why, Refusal(503, detail, retry_after=b"2"))
        return Unreached("no_worker", Refusal(503, "no worker answers right now", retry_after=b"5"))

    async def _target(self, session: str, tried: Sequence[Target]) -> tuple[bool, Target | None]:
        """Whether anybody knows the session, and whom to ask; None: nobody can be asked now. Raises StoreAway,
        StoreRefused, or Refusal 404."""
        found = await self._owners.find(session) if session else Unknown()
        match found:
            case Owner():
                return True, target_at(found)
            case Unowned(LastOwner(existing=True, live=True) as last):
                return True, Target(last.worker, last.url, existing=True)
            case Unowned():
                return True, None
        return False, await self._fleet.any_but({target.worker for target in tried}, session)
