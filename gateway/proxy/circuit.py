"""The circuit of a directly proxied upstream: per process, in memory, asked from one event loop.

           of the calls of the last 10 s, 20 at least, half failed
    closed --------------------------------------------------------> open <--------------------+
      ^                                                               |                         |
      |                  a second after it opened, or after           |                         | the last probe
      |                  the last probe began: another one            v                         | under way failed
      +---------------- a probe went well ----------------------- half-open (probes under way) -+

While it is not closed one call a second goes through, as a probe, whether or not the one before has ended: an upstream
that is back is found out within a second, however slowly it begins. Other calls wait for the outcome of a probe, each
for about a second at most, in the order in which they came; the first of them is the next probe.

A result counts only in the state its call was let through in: calls begun before an outage say nothing after it. A call
its client left counts as neither good nor bad. Time is a monotonic clock, and nothing runs while nobody waits.

Others hear of each change of the state from aiobreaker (`gateway/proxy/breaker.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from gateway.proxy.breaker import Breaker, State
from sluice.observe.log import Log

LOG = Log("gateway")

WINDOW: Final = 10.0
"""Seconds that are looked back on, in ten slots: the present one and the nine before it."""
MINIMUM: Final = 20
RATIO: Final = 0.5
PROBE_EVERY = 1.0
"""Seconds from one probe to the next."""
WAIT: Final = 1.0
"""Seconds for which a call waits for the outcome of a probe."""
HEARD_WITHIN: Final = 0.25
"""Seconds after the beginning of the next probe until which whoever waits for it does so at least."""
MAX_PROBES: Final = 32
"""Under way at once: an upstream that takes calls and answers none keeps each for as long as it may take to answer."""
MAX_WAITING: Final = 256
"""Calls that wait; whoever comes then is refused at once."""

_SLOTS: Final = 10
_SLOT: Final = WINDOW / _SLOTS
_REPORTED: Final = -1
_EARLY: Final = 0.001  # seconds: by so much timers of an event loop may be early


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


Waiter = asyncio.Future[Admission | Refused]


class UpstreamCircuit:
    """Lets calls to an upstream through, or one a second while it fails.

    `show` is called with the name and the state, now and at each change.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        show: Callable[[str, State], None] | None = None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._show = show
        self._state: State = "closed"
        self._breaker = Breaker(name, self._report)
        self._generation = 0
        self._window = _Window(clock())
        self._next_probe = 0.0
        self._opened = 0.0
        self._probes: set[Admission] = set()
        self._waiting: dict[Waiter, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        if show:
            show(name, "closed")

    @property
    def state(self) -> State:
        """Half-open while a probe is under way."""
        return self._state

    @property
    def waiting(self) -> int:
        """Calls that wait for the outcome of a probe."""
        return len(self._waiting)

    def admit(self) -> Admission | None:
        """None: not now; `wait`. Whoever waits comes first."""
        if self._state == "closed":
            return Admission(self, self._generation)
        return None if self._waiting else self._probe()

    async def wait(self) -> Admission | Refused:
        """What a probe decides within about a second; this call may be the probe itself."""
        if len(self._waiting) >= MAX_WAITING:
            return self._refused()
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._waiting[waiter] = None
        seconds = max(WAIT, self._next_probe - self._clock() + HEARD_WITHIN)
        end = loop.call_later(seconds, self._give_up, waiter)
        self._set_timer()
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and isinstance(admission := waiter.result(), Admission):
                admission.abandoned()
            raise
        finally:
            end.cancel()
            self._waiting.pop(waiter, None)

    def count(self, admission: Admission, failed: Literal[0, 1], why: str) -> None:
        """For `Admission`."""
        if admission.generation != self._generation:
            return
        admission.generation = _REPORTED
        if self._state == "closed":
            self._add(failed, why)
        elif not failed:
            self._close()
        else:
            self._end_probe(admission)
            self._answer_all(lambda: self._refused())

    def release(self, admission: Admission) -> None:
        """For `Admission`."""
        if admission.generation == _REPORTED:
            return
        admission.generation = _REPORTED
        if admission in self._probes:
            self._end_probe(admission)
            self._next_probe = self._clock()
            self._set_timer()

    def _probe(self) -> Admission | None:
        now = self._clock()
        if now < self._next_probe or len(self._probes) >= MAX_PROBES:
            return None
        probe = Admission(self, self._generation)
        self._probes.add(probe)
        self._next_probe = now + PROBE_EVERY
        if self._state == "open":
            self._become("half-open")
        return probe

    def _end_probe(self, probe: Admission) -> None:
        self._probes.discard(probe)
        if not self._probes:
            self._become("open")

    def _refused(self) -> Refused:
        return Refused(max(0.0, self._next_probe - self._clock()))

    def _answer_all(self, answer: Callable[[], Admission | Refused]) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(answer())

    def _give_up(self, waiter: Waiter) -> None:
        if not waiter.done():
            waiter.set_result(self._refused())

    def _set_timer(self) -> None:
        """For the moment from which the first of those who wait may be a probe."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and len(self._probes) < MAX_PROBES:
            seconds = max(_EARLY, self._next_probe - self._clock())
            self._timer = asyncio.get_running_loop().call_later(seconds, self._let_next)

    def _let_next(self) -> None:
        self._timer = None
        waiter = next((waiter for waiter in self._waiting if not waiter.done()), None)
        if waiter is not None:
            probe = self._probe()
            if probe is not None:
                del self._waiting[waiter]
                waiter.set_result(probe)
            self._set_timer()

    def _add(self, failed: Literal[0, 1], why: str) -> None:
        window = self._window
        window.add(self._clock(), failed)
        if failed:
            window.why = why
        # After a good call too: it may make up the minimum, or find that the good ones before it are too old to count.
        if window.failed and window.calls >= MINIMUM and window.failed >= RATIO * window.calls:
            self._open(window)

    def _open(self, window: _Window) -> None:
        self._generation += 1
        self._opened = self._clock()
        self._next_probe = self._opened + PROBE_EVERY
        why = f"{window.failed} of {window.calls} calls failed"
        LOG.warning(
            "upstream.circuit", name=self._name, state="open", why=f"{why}: {window.why}" if window.why else why
        )
        self._become("open")

    def _close(self) -> None:
        now = self._clock()
        self._generation += 1
        self._window = _Window(now)
        self._probes.clear()
        why = f"a probe went well, {now - self._opened:.0f} s after it opened"
        LOG.info("upstream.circuit", name=self._name, state="closed", why=why)
        self._become("closed")
        self._answer_all(lambda: Admission(self, self._generation))

    def _become(self, state: State) -> None:
        self._state = state
        self._breaker.become(state)

    def _report(self, state: State) -> None:
        if self._show:
            self._show(self._name, state)


class _Window:
    """How many calls of the last seconds there were, and how many of them failed."""

    __slots__ = ("_past", "_slot_ends", "calls", "failed", "why")

    def __init__(self, now: float) -> None:
        self.calls = 0
        self.failed = 0
        self.why = ""
        """Of the last one that failed."""
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
