"""The circuit of an endpoint, shared by all processes, and its pace: how many attempts may begin now.

The rules, and a picture of the states, are in `relay/lua/circuit.lua`, `admit.lua` and `hold.lua`. This file owns the
key `sl:{<endpoint>}:circuit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.policies import CircuitPolicy
from sluice.config import Rate
from sluice.store import clock
from sluice.store.client import Call, Store, load_script

_ADMIT = load_script("relay", "circuit", "admit", drains=True)
_HOLD = load_script("relay", "hold", drains=True)

KEY_PATTERNS = ("sl:{<endpoint>}:circuit",)
State = Literal["closed", "open", "half-open"]
_STATES: dict[bytes, State] = {b"closed": "closed", b"open": "open", b"half-open": "half-open"}


@dataclass(frozen=True, slots=True)
class Admission:
    state: State
    generation: int
    permits: int
    wait: float
    """Seconds until asking again makes sense; infinite: not before something else has happened."""
    slow_start_left: float = 0.0
    """Seconds left in which the concurrency grows from 1 to its maximum, as the circuit has closed a moment ago."""


@dataclass(slots=True)
class Report:
    """What came of the permits of one generation of the circuit."""

    successes: int = 0
    failures: int = 0
    unused: int = 0
    paused: bool = False
    min_pause: float = 0.0
    """Seconds that the endpoint asked to be paused."""
    why: str = ""

    def add(self, other: Report) -> None:
        self.successes += other.successes
        self.failures += other.failures
        self.unused += other.unused
        self.paused |= other.paused
        self.min_pause = max(self.min_pause, other.min_pause)
        self.why = other.why or self.why


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    state: State
    retry_after: float
    """Seconds until an open circuit lets probes through; 0 while it is held."""
    why: str
    held: bool = False
    """By a person, until it is released."""


class Circuit:
    """`probe_lease` in seconds: a probe without a result by then counts as lost, and another may go.

    Methods raise StoreAway or StoreRefused.
    """

    def __init__(
        self, store: Store, endpoint: str, policy: CircuitPolicy, rate: Rate | None, *, probe_lease: float
    ) -> None:
        self._store = store
        self._key = circuit_key(endpoint)
        self._settings = (
            *(_ms(policy.window), policy.minimum, policy.ratio, _ms(policy.open), _ms(policy.cap)),
            *(policy.probes, _ms(probe_lease), round(rate.interval * 1e6, 3) if rate else 0, pace_burst(rate)),
            _ms(policy.slow_start),
        )
        self.slow_start = policy.slow_start
        self.interval = rate.interval if rate else 0.0
        """Seconds between two attempts; 0: no pace."""

    async def admit(self, want: int, reports: Sequence[tuple[int, Report]] = ()) -> Admission:
        """Delivers `(generation, report)` pairs and asks for up to `want` permits, in one round trip.

        When it raises, the same reports may be delivered again.
        """
        call = self.admitting(want, reports)
        return self.admission(await self._store.run(call.script, call.keys, call.args))

    def admitting(self, want: int, reports: Sequence[tuple[int, Report]] = ()) -> Call:
        """`admit` as a call, to be sent together with others; `admission` reads its answer."""
        args: list[str | int | float] = [*self._settings, want]
        for generation, r in reports:
            args += (generation, r.successes, r.failures, int(r.paused), _ms(r.min_pause), r.unused, r.why)
        return Call(_ADMIT, [self._key], args)

    def admission(self, answer: Sequence[Any]) -> Admission:
        state, generation, permits, wait, slow_start_left = answer
        return Admission(
            _STATES[state], generation, permits, wait / 1000 if wait >= 0 else math.inf, slow_start_left / 1000
        )

    async def hold(self, state: Literal["open", "closed"], why: str) -> bool:
        """Until `release`: open sends nothing, closed sends all, whatever comes of it. False: it was so before."""
        return bool(await self._store.run(_HOLD, [self._key], [state, why]))

    async def release(self) -> bool:
        """The results decide again, after probes where it was held open. False: it was not held."""
        return bool(await self._store.run(_HOLD, [self._key], ["", ""]))

    async def view(self) -> CircuitStatus:
        """For people."""
        now, fields = await self._store.run_all(
            [clock.look(self._key)], [("HMGET", self._key, "state", "until", "why", "held")]
        )
        state, until, why, held = fields
        reason = (why or b"").decode("utf-8", "replace")
        if held:
            return CircuitStatus(_STATES[held], 0.0, reason, held=True)
        left = int(until or 0) / 1000 - clock.seconds(now)
        return CircuitStatus(_STATES[state or b"closed"], max(0.0, left), reason)


def circuit_key(endpoint: str) -> str:
    return f"sl:{{{endpoint}}}:circuit"


def pace_burst(rate: Rate | None) -> int:
    """How many attempts a pace lets begin at once: those of a second, one at least."""
    return max(1, math.ceil(1 / rate.interval)) if rate else 1


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
