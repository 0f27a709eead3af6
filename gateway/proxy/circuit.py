"""The circuit of a directly proxied upstream: per process, in memory, asked from one event loop.

           of the calls of the last 10 s, 20 at least, half failed
    closed --------------------------------------------------------> open for 1 s, doubling up to 30 s
      ^                                                               |  ^
      +---- the probe went well ---- half-open <---- time is up ------+  |
                                         +-------- the probe failed -----+

A result counts only in the state its call was let through in: calls begun before an outage say nothing after it. A call
its client left counts as neither good nor bad. Time is a monotonic clock, and nothing runs between calls.

aiobreaker is here as the holder of the state, which tells its listener of each change, because it is the breaker this
project was asked to use. It calls, counts and times nothing: half-open it lets every caller through, it counts
consecutive failures only, mixes UTC with local time, and puts its own error in the place of the one that opened it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiobreaker import CircuitBreaker, CircuitBreakerListener, CircuitBreakerState
from aiobreaker.storage.memory import CircuitMemoryStorage

from sluice.observe.log import Log

LOG = Log("gateway")

WINDOW = 10.0
"""Seconds that are looked back on, in ten slots: the present one and the nine before it."""
MINIMUM = 20
RATIO = 0.5
PROBES = 1
FIRST_OPEN = 1.0
MAX_OPEN = 30.0

State = Literal["closed", "open", "half-open"]
_NAMES: dict[CircuitBreakerState, State] = {
    CircuitBreakerState.CLOSED: "closed",
    CircuitBreakerState.OPEN: "open",
    CircuitBreakerState.HALF_OPEN: "half-open",
}
_CLOSED = CircuitBreakerState.CLOSED
_SLOTS = 10
_SLOT = WINDOW / _SLOTS
_REPORTED = -1


@dataclass(frozen=True, slots=True)
class Refused:
    """`retry_after`: seconds until asking again makes sense."""

    retry_after: float


class Admission:
    """A call that may be made. Of its three methods the first call counts: `abandoned()` may stand in a `finally`."""

    __slots__ = ("_circuit", "generation")

    def __init__(self, circuit: UpstreamCircuit, generation: int) -> None:
        self._circuit = circuit
        self.generation = generation

    def succeeded(self) -> None:
        self._circuit.count(self, 0, "")

    def failed(self, why: str = "") -> None:
        """A timeout is a failure too. `why` is for the log."""
        self._circuit.count(self, 1, why)

    def abandoned(self) -> None:
        """The client left, or the upstream was not asked after all."""
        self._circuit.release(self)


class UpstreamCircuit:
    """Lets calls to an upstream through, or refuses them at once while it fails.

    `probe_lease`: seconds after which a probe nobody reported on is lost; longer than an upstream may take to answer.
    `show` is called with the name and the state, now and at each change.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        probe_lease: float = 60.0,
        show: Callable[[str, State], None] | None = None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._probe_lease = probe_lease
        self._show = show
        self._storage = CircuitMemoryStorage(_CLOSED)
        self._breaker = CircuitBreaker(state_storage=self._storage, listeners=[_Listener(self._report)], name=name)
        self._generation = 0
        self._window = _Window(clock())
        self._open_for = FIRST_OPEN
        self._opens_until = 0.0
        self._probes: dict[Admission, float] = {}
        self._why = ""
        if show:
            show(name, "closed")

    @property
    def state(self) -> State:
        """An open circuit is half-open from the first call on that finds its time is up."""
        return _NAMES[self._storage.state]

    def admit(self) -> Admission | Refused:
        if self._storage.state is _CLOSED:
            return Admission(self, self._generation)
        return self._admit_probe(self._clock())

    def _admit_probe(self, now: float) -> Admission | Refused:
        if self.state == "open":
            if now < self._opens_until:
                return Refused(self._opens_until - now)
            self._become(CircuitBreakerState.HALF_OPEN, f"was open for {self._open_for:g}s")
        self._probes = {probe: lost_at for probe, lost_at in self._probes.items() if now < lost_at}
        if len(self._probes) >= PROBES:
            return Refused(FIRST_OPEN)
        probe = Admission(self, self._generation)
        self._probes[probe] = now + self._probe_lease
        return probe

    def count(self, admission: Admission, failed: Literal[0, 1], why: str) -> None:
        """For `Admission`."""
        if admission.generation != self._generation:
            return
        admission.generation = _REPORTED
        if self._storage.state is _CLOSED:
            self._add(failed, why)
        elif self._probes.pop(admission, None) is not None:
            if failed:
                self._open(min(MAX_OPEN, self._open_for * 2), _because("the probe failed", why))
            else:
                self._close("the probe went well")

    def release(self, admission: Admission) -> None:
        """For `Admission`."""
        if admission.generation == _REPORTED:
            return
        admission.generation = _REPORTED
        self._probes.pop(admission, None)

    def _add(self, failed: Literal[0, 1], why: str) -> None:
        window = self._window
        window.add(self._clock(), failed)
        if failed:
            self._why = why
        # After a good call too: it may make up the minimum, or find that the good ones before it are too old to count.
        if window.failed and window.calls >= MINIMUM and window.failed >= RATIO * window.calls:
            self._open(FIRST_OPEN, _because(f"{window.failed} of {window.calls} calls failed", self._why))

    def _open(self, seconds: float, why: str) -> None:
        self._open_for = seconds
        self._opens_until = self._clock() + seconds
        self._become(CircuitBreakerState.OPEN, why)

    def _close(self, why: str) -> None:
        self._window = _Window(self._clock())
        self._become(_CLOSED, why)

    def _become(self, state: CircuitBreakerState, why: str) -> None:
        """What aiobreaker's open(), half_open() and close() do, but for open()'s utcnow()."""
        self._generation += 1
        self._probes.clear()
        self._why = why
        self._storage.state = state
        self._breaker.state = state

    def _report(self, state: State) -> None:
        log = LOG.warning if state == "open" else LOG.info
        log("upstream.circuit", name=self._name, state=state, why=self._why)
        if self._show:
            self._show(self._name, state)


class _Listener(CircuitBreakerListener):  # type: ignore[misc]
    def __init__(self, report: Callable[[State], None]) -> None:
        self._report = report

    def state_change(self, breaker: object, old: object, new: Any) -> None:
        self._report(_NAMES[new.state])


class _Window:
    """How many calls of the last seconds there were, and how many of them failed."""

    __slots__ = ("_past", "_slot_ends", "calls", "failed")

    def __init__(self, now: float) -> None:
        self.calls = 0
        self.failed = 0
        self._past: deque[tuple[int, int]] = deque(maxlen=_SLOTS - 1)  # calls and failures of the slots before this one
        self._slot_ends = (now // _SLOT + 1) * _SLOT

    def add(self, now: float, failed: Literal[0, 1]) -> None:
        if now >= self._slot_ends:
            self._advance(now)
        self.calls += 1
        self.failed += failed

    def _advance(self, now: float) -> None:
        calls, failed = self._in_the_past()
        empty = int((now - self._slot_ends) // _SLOT)
        self._past.append((self.calls - calls, self.failed - failed))
        self._past.extend([(0, 0)] * min(empty, _SLOTS))
        self.calls, self.failed = self._in_the_past()
        self._slot_ends += (empty + 1) * _SLOT

    def _in_the_past(self) -> tuple[int, int]:
        return sum(calls for calls, _ in self._past), sum(failed for _, failed in self._past)


def _because(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what
