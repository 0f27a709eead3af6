"""The state of a circuit, as aiobreaker holds it.

aiobreaker tells its listener of each change of the state, and is here because it is the breaker this project was asked
to use. It calls, counts and times nothing: half-open it lets every caller through, it counts consecutive failures only,
mixes UTC with local time, and puts its own error in the place of the one that opened it. Not compiled, as compiled
classes have no base that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from aiobreaker import CircuitBreaker, CircuitBreakerListener, CircuitBreakerState
from aiobreaker.storage.memory import CircuitMemoryStorage

State = Literal["closed", "open", "half-open"]
_NAMES: dict[CircuitBreakerState, State] = {
    CircuitBreakerState.CLOSED: "closed",
    CircuitBreakerState.OPEN: "open",
    CircuitBreakerState.HALF_OPEN: "half-open",
}
_STATES = {name: state for state, name in _NAMES.items()}


class Breaker:
    """`report` is called with each state that it goes over to."""

    def __init__(self, name: str, report: Callable[[State], None]) -> None:
        self._storage = CircuitMemoryStorage(CircuitBreakerState.CLOSED)
        self._breaker = CircuitBreaker(state_storage=self._storage, listeners=[_Listener(report)], name=name)

    def become(self, state: State) -> None:
        """What aiobreaker's open(), half_open() and close() do, but for open()'s utcnow()."""
        self._storage.state = self._breaker.state = _STATES[state]


class _Listener(CircuitBreakerListener):  # type: ignore[misc]
    def __init__(self, report: Callable[[State], None]) -> None:
        self._report = report

    def state_change(self, breaker: object, old: object, new: Any) -> None:
        self._report(_NAMES[new.state])
