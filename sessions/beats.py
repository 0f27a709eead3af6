"""What a worker says with a beat, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sessions.client import Answer
from sessions.reconciler import Reconciler

State = tuple[str, str | None, str | None]
"""State, phone and reason of a session."""


class Beats:
    """`state(session)` answers how it stands, `load` how full the machine is. One beat at a time."""

    def __init__(
        self, sessions: Reconciler, state: Callable[[str], State], load: Callable[[], Mapping[str, float] | None]
    ) -> None:
        self.draining = False
        self.capacity: Callable[[], int] | None = None
        """Asked with each beat how many sessions it runs at most; None: that stays as it was registered."""
        self.dropped: Callable[[], int] = lambda: 0
        """How many events it could not pass on within the last hour."""
        self.creates_above = 0
        """A create under a fence up to this came too late."""
        self._sessions = sessions
        self._state = state
        self._load = load
        self._ended: dict[str, int] = {}
        self._released: dict[str, int] = {}
        self._reported: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._accepted: dict[str, int] = {}
        """Creates since the last beat was sent, with their fences: its answer knows nothing of them."""

    @property
    def owes(self) -> bool:
        """Whether there is something to tell that runs here no more."""
        return bool(self._ended or self._released)

    def accept(self, session: str, fence: int) -> bool:
        """Whether the create of it is begun, or goes on."""
        if self._sessions.is_given(session, fence):
            return self._sessions.begin(session, fence)
        if self.draining or session in self._ended or fence <= self.creates_above:
            return False
        if not self._sessions.begin(session, fence):
            return False
        self._accepted[session] = fence
        return True

    def end(self, session: str, fence: int) -> None:
        """A person ended it here."""
        self._ended[session] = fence
        self._sessions.end(session)

    def release(self, sessions: Mapping[str, int]) -> None:
        """They have stopped, each under its fence, and are for others to run."""
        self._released |= sessions

    def stop_all(self) -> None:
        self._accepted.clear()
        self._sessions.run_exactly({})

    def said(self) -> Answer:
        """The fields of a beat that is sent now."""
        self._reported = dict(self._ended), dict(self._released)
        self._accepted.clear()
        sessions: Answer = {}
        for session, fence in self._sessions.running.items():
            state, phone, reason = self._state(session)
            sessions[session] = {"fence": fence, "state": state, "phone": phone, "reason": reason}
        for session, fence in self._sessions.pending.items():
            sessions[session] = {"fence": fence, "state": "starting"}
        ended, released = self._reported
        fields: Answer = {"sessions": sessions, "gone": ended, "released": released}
        if self.capacity is not None:
            fields["capacity"] = self.capacity()
        dropped = self.dropped()
        if dropped:
            fields["dropped"] = dropped
        return fields | {"draining": self.draining, "load": self._load(), "creates_above": self.creates_above}

    def answered(self, sessions: Mapping[str, int], creates_above: int) -> None:
        """To the beat that was said last."""
        for reported, left in zip(self._reported, (self._ended, self._released), strict=True):
            for session in reported:
                left.pop(session, None)
        self.creates_above = max(self.creates_above, creates_above)
        to_run = {**self._accepted, **sessions}
        self._sessions.run_exactly({session: fence for session, fence in to_run.items() if self._is_to_run(session)})

    def _is_to_run(self, session: str) -> bool:
        if session in self._ended or session in self._released:
            return False
        return not self.draining or self._sessions.fence_of(session) is not None
