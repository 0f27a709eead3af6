"""The attempts to send that one process makes, and those whose outcome it keeps for a repeat."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator

from gateway.problems import Refusal
from gateway.workers.calls import Call
from gateway.workers.send_records import Outcome
from sluice.http.bodies import BodyBudget
from sluice.http.server import Exchange, RecordedExchange

MOST = 1000
"""Attempts of one process, with those whose outcome is kept."""
_SHARE = 2
"""Of the budget for bodies they hold at most one part in so many."""


class Attempt:
    """One attempt to send."""

    def __init__(self, digest: str, call: Call, session: str, size: int) -> None:
        self.id = secrets.token_hex(8)
        self.digest = digest
        self.call = call
        self.session = session
        self.size = size
        """Of the request's body while it runs, then of its outcome."""
        self.stored_as = ""
        """The id under which it is stored; empty: it is not."""
        self.callers: list[Exchange] = []
        """Who waits here for its outcome."""
        self.began = time.monotonic()
        self.outcome: Outcome | None = None
        self.was_sent = True
        """False: it has ended, and no worker was asked."""
        self.is_unknown = False
        """Its worker has answered, and nobody knows whether it has sent it."""
        self.is_given = False
        """Its caller was given its outcome, and has taken it as far as is known."""
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.kept: asyncio.TimerHandle | None = None

    def keep(self, seconds: float, forget: Callable[[Attempt], None]) -> None:
        """Calls `forget` then, and at no time that was said before."""
        if self.kept is not None:
            self.kept.cancel()
        self.kept = asyncio.get_running_loop().call_later(seconds, forget, self)

    @property
    def is_left(self) -> bool:
        """Nobody waits here for its outcome any more, and nobody has it. The kernel is asked who has hung up, as this
        process may be late to hear of it."""
        return not self.is_given and all(caller.has_hung_up() for caller in self.callers)

    @property
    def is_answered(self) -> bool:
        """A refusal of ours tells nothing of what a worker has made of it, if one was asked."""
        unknown = self.is_unknown or (self.was_sent and isinstance(self.outcome, Refusal))
        return self.outcome is not None and not unknown


class Attempts:
    """By digest."""

    def __init__(self, bodies: BodyBudget) -> None:
        self._bodies = bodies
        self._known: dict[str, list[Attempt]] = {}
        self._number = self._bytes = 0

    def __iter__(self) -> Iterator[Attempt]:
        return iter([attempt for same in self._known.values() for attempt in same])

    def __contains__(self, digest: str) -> bool:
        return digest in self._known

    def has_room(self, size: int) -> bool:
        return self._number < MOST and self._bytes + size <= self._bodies.limit // _SHARE

    def left(self, digest: str) -> Attempt | None:
        """One for which nobody waits here."""
        return next((attempt for attempt in self._known.get(digest, ()) if attempt.is_left), None)

    def by_id(self, digest: str, identity: str) -> Attempt | None:
        return next((attempt for attempt in self._known.get(digest, ()) if attempt.id == identity), None)

    def add(self, attempt: Attempt) -> None:
        self._known.setdefault(attempt.digest, []).append(attempt)
        self._number += 1
        self._bytes += attempt.size

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Of its body nothing is kept any more, but its outcome."""
        size = len(outcome.body) if isinstance(outcome, RecordedExchange) else 0
        self._bytes += size - attempt.size
        attempt.size, attempt.outcome = size, outcome
        attempt.ended.set()

    def forget(self, attempt: Attempt) -> bool:
        """False: it was forgotten before."""
        same = self._known.get(attempt.digest, [])
        if attempt not in same:
            return False
        same.remove(attempt)
        if not same:
            del self._known[attempt.digest]
        if attempt.kept is not None:
            attempt.kept.cancel()
        self._number -= 1
        self._bytes -= attempt.size
        return True
