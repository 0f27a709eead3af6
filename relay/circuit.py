"""The circuit of an endpoint, shared by all processes, and its pace: how many attempts may begin now.

The rules and their picture are in `relay/lua/circuit.lua`, `admit.lua` and `hold.lua`. This file owns the key
`sl:{<endpoint>}:circuit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.policies import CircuitPolicy
from sluice.config import Rate
from sluice.store.client import Call, Store, load_script

_ADMIT = load_script("relay", "circuit", "admit", drains=True)
_HOLD = load_script("relay", "hold", drains=True)

State = Literal["closed", "open", "half-open"]
_STATES: dict[bytes, State] = {b"C": "closed", b"O": "open", b"H": "half-open"}


@dataclass(frozen=True, slots=True)
class Admission:
    state: State
    generation: int
    permits: int
    wait: float
    """Seconds until asking again makes sense; infinite: when something else has happened."""
    slow_start_left: float = 0.0
    """Seconds left in which the concurrency grows to all of it, because the circuit has closed a moment ago."""


@dataclass(slots=True)
class Report:
    """What came of the permits of one generation."""

    well: int = 0
    wrong: int = 0
    unused: int = 0
    paused: bool = False
    min_pause: float = 0.0
    """Seconds the endpoint asked to be left alone."""
    why: str = ""

    def add(self, other: Report) -> None:
        self.well += other.well
        self.wrong += other.wrong
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
    """By a person, until it is let go."""


class Circuit:
    """`probe_lease` in seconds: probes whose results do not come within are given up, and others go.

    Methods raise StoreAway or StoreRefused.
    """

    def __init__(
        self, store: Store, endpoint: str, policy: CircuitPolicy, rate: Rate | None, *, probe_lease: float
    ) -> None:
        self._store = store
        self._key = f"sl:{{{endpoint}}}:circuit"
        self._settings = (
            *(_ms(policy.window), policy.minimum, policy.ratio, _ms(policy.open), _ms(policy.cap)),
            *(policy.probes, _ms(probe_lease), round(rate.interval * 1e6, 3) if rate else 0, pace_burst(rate)),
            _ms(policy.slow_start),
        )
        self.slow_start = policy.slow_start
        self.interval = rate.interval if rate else 0.0
        """Seconds for one attempt; 0: no pace."""

    async def admit(self, want: int, reports: Sequence[tuple[int, Report]] = ()) -> Admission:
        """Takes in `(generation, report)`s and asks for up to `want` permits, in one round trip.

        The same reports may be given again when it could not be done.
        """
        call = self.admitting(want, reports)
        return self.admission(await self._store.run(call.script, call.keys, call.args))

    def admitting(self, want: int, reports: Sequence[tuple[int, Report]] = ()) -> Call:
        """`admit` as a call, to go together with others; `admission` reads its answer."""
        args: list[str | int | float] = [*self._settings, want]
        for generation, r in reports:
            args += (generation, r.well, r.wrong, int(r.paused), _ms(r.min_pause), r.unused, r.why)
        return Call(_ADMIT, [self._key], args)

    def admission(self, answer: Sequence[Any]) -> Admission:
        state, generation, permits, wait, slow_start_left = answer
        return Admission(
            _STATES[state], generation, permits, wait / 1000 if wait >= 0 else math.inf, slow_start_left / 1000
        )

    async def hold(self, state: Literal["open", "closed"], why: str) -> bool:
        """Open: nothing is sent; closed: everything is, whatever comes of it; until `release`. False: it was so."""
        return bool(await self._store.run(_HOLD, [self._key], ["O" if state == "open" else "C", why]))

    async def release(self) -> bool:
        """Leaves it to the results again, beginning with probes where it was held open. False: it was not held."""
        return bool(await self._store.run(_HOLD, [self._key], ["", ""]))

    async def view(self) -> CircuitStatus:
        """For people."""
        (fields, (seconds, micros)) = await self._store.commands(
            ("HMGET", self._key, "state", "until", "why", "held"), ("TIME",)
        )
        state, until, why, held = fields
        told = (why or b"").decode("utf-8", "replace")
        if held:
            return CircuitStatus(_STATES[held], 0.0, told, held=True)
        left = int(until or 0) / 1000 - (int(seconds) + int(micros) / 1e6)
        return CircuitStatus(_STATES[state or b"C"], max(0.0, left), told)


def pace_burst(rate: Rate | None) -> int:
    """What a pace lets through at once: what it lets through in a second, one at least."""
    return max(1, math.ceil(1 / rate.interval)) if rate else 1


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
