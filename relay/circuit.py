"""The circuit of an endpoint, shared by all processes, and its pace: how many attempts may begin now.

The rules, and a picture of the states, are in `relay/lua/circuit.lua`, `admit.lua` and `hold.lua`. This file owns the
key `sl:{<endpoint>}:circuit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from relay.deliver.backoff import MAX_RETRY_AFTER
from relay.policies import CircuitPolicy
from sluice.config import Rate
from sluice.store import clock
from sluice.store.client import Call, Store, load_script

_ADMIT = load_script("relay", "circuit", "admit", drains=True)
_HOLD = load_script("relay", "hold", drains=True)
_PROBE = load_script("relay", "probe", drains=True)

KEY_PATTERNS = ("sl:{<endpoint>}:circuit",)
State = Literal["closed", "open", "half-open"]
Cause = Literal["asked", "failing", "nobody", "probe"]
"""Why it has opened: the endpoint said "not now", most POSTs of the window failed, none got a 2xx for a window, a probe
failed."""
_CAUSES: dict[bytes, Cause] = {name.encode(): name for name in get_args(Cause)}
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
    ok_at: float = 0.0
    """When the last POST that got a 2xx began, of any ordering key; 0: none is known. Like `now` in unix seconds, by
    the store's clock."""
    now: float = 0.0
    held: bool = False
    """By a person."""
    opened: Cause | None = None
    """Why the reports have opened it just now."""


PROBE_WITHIN = 60.0
"""Seconds in which an attempt that a person wants has to begin."""
MAX_KEYS = 3
"""Ordering keys that failed of which a report tells: from so many on it is the endpoint's fault (`lua/circuit.lua`)."""


@dataclass(slots=True)
class Report:
    """What came of the permits of one generation of the circuit. In POSTs."""

    successes: int = 0
    failures: int = 0
    refusals: int = 0
    """Refused or rejected: they tell something about the endpoint only while nobody gets through."""
    unused: int = 0
    paused: bool = False
    min_pause: float = 0.0
    """Seconds that the endpoint asked to be paused."""
    why: str = ""
    ok_at: float = 0.0
    """When the last POST that got a 2xx began: unix seconds by the store's clock, as it was known then; 0: none."""
    keys: dict[str, None] = field(default_factory=dict)
    """Hashes of up to `MAX_KEYS` ordering keys that failed."""
    statuses: dict[int | None, int] = field(default_factory=dict)
    """How often which status was the answer, where it was no 2xx; None: there was no answer."""

    def add(self, other: Report) -> None:
        self.successes += other.successes
        self.failures += other.failures
        self.refusals += other.refusals
        self.unused += other.unused
        self.paused |= other.paused
        self.min_pause = max(self.min_pause, other.min_pause)
        self.why = other.why or self.why
        self.note_ok(other.ok_at)
        for key in other.keys:
            self.note_key(key)
        for status, times in other.statuses.items():
            self.note_status(status, times)

    def note_ok(self, began_at: float) -> None:
        """A POST that began at this moment got a 2xx."""
        self.ok_at = max(self.ok_at, began_at)

    def note_key(self, key: str) -> None:
        """An ordering key, by its hash, failed."""
        if len(self.keys) < MAX_KEYS:
            self.keys[key] = None

    def note_status(self, status: int | None, times: int = 1) -> None:
        """The answer was no 2xx."""
        self.statuses[status] = self.statuses.get(status, 0) + times


@dataclass(frozen=True, slots=True)
class Answers:
    """`times` the same status in a row, or beside others. `status` None: no answer."""

    status: int | None
    times: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Probed:
    """`number`: by which `Circuit.probe` called it. `was_closed`: the circuit lets everything through as it is."""

    number: int
    at: float
    status: int | None
    """None: no answer, or 2xx."""
    went_well: bool
    was_closed: bool
    why: str


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    state: State
    retry_after: float
    """Seconds until an open circuit lets probes through; 0 while it is held."""
    why: str
    held: bool = False
    """By a person, until it is released."""
    ok_at: float = 0.0
    """When the last POST that got a 2xx began, of any ordering key; 0: none is known. Unix seconds, as all moments
    here, by the store's clock."""
    failing_since: float = 0.0
    """When the first POST failed after that; 0: none has."""
    failing_keys: int = 0
    """Ordering keys that failed since then; `MAX_KEYS`: so many or more."""
    answers: tuple[Answers, ...] = ()
    """What was no 2xx, the last few statuses; oldest first."""
    opened: int = 0
    """How often it has opened, and when first and last."""
    opened_first: float = 0.0
    opened_last: float = 0.0
    probed: Probed | None = None
    """What came of the last attempt that a person has wanted."""


class Circuit:
    """`probe_lease` in seconds: a probe without a result by then counts as lost, and another may go.

    Methods raise StoreAway or StoreRefused.
    """

    def __init__(
        self, store: Store, endpoint: str, policy: CircuitPolicy, rate: Rate | None, *, probe_lease: float
    ) -> None:
        self.endpoint = endpoint
        self._store = store
        self._key = circuit_key(endpoint)
        self._settings = (
            *(_ms(policy.window), policy.minimum, policy.ratio, _ms(policy.open), _ms(policy.cap)),
            *(policy.probes, _ms(probe_lease), round(rate.interval * 1e6, 3) if rate else 0, pace_burst(rate)),
            _ms(policy.slow_start),
        )
        self.slow_start = policy.slow_start
        self.max_pause = min(policy.cap, MAX_RETRY_AFTER)
        """Seconds after which an endpoint that takes nothing is tried again, whatever it asks for."""
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
        for generation, report in reports:
            args += _report_arguments(generation, report)
        return Call(_ADMIT, [self._key], args)

    def admission(self, answer: Sequence[Any]) -> Admission:
        state, generation, permits, wait, slow_start_left, ok_at, now, held, opened = answer
        return Admission(
            _STATES[state],
            generation,
            permits,
            wait / 1000 if wait >= 0 else math.inf,
            slow_start_left / 1000,
            ok_at / 1000,
            now / 1000,
            bool(held),
            _CAUSES.get(opened),
        )

    async def hold(self, state: Literal["open", "closed"], why: str) -> bool:
        """Until `release`: open sends nothing, closed sends all, whatever comes of it. False: it was so before."""
        return bool(await self._store.run(_HOLD, [self._key], [state, why]))

    async def release(self) -> bool:
        """The results decide again, after probes where it was held open. False: it was not held."""
        return bool(await self._store.run(_HOLD, [self._key], ["", ""]))

    async def view(self) -> CircuitStatus:
        """For people."""
        now, fields = await self._store.run_all([clock.look(self._key)], [("HMGET", self._key, *_VIEWED)])
        seen = {name: (value or b"").decode("utf-8", "replace") for name, value in zip(_VIEWED, fields, strict=True)}
        left = 0.0 if seen["held"] else max(0.0, _moment(seen["until"]) - clock.seconds(now))
        since, *keys = seen["trouble"].split() or [""]
        return CircuitStatus(
            *(_STATES[(seen["held"] or seen["state"] or "closed").encode()], left, seen["why"]),
            held=bool(seen["held"]),
            ok_at=_moment(seen["ok_at"]),
            failing_since=_moment(since),
            failing_keys=len(keys),
            answers=tuple(_answers(line) for line in seen["history"].splitlines()),
            opened=int(seen["opened"] or 0),
            opened_first=_moment(seen["opened_first"]),
            opened_last=_moment(seen["opened_last"]),
            probed=_probed(seen["probed"]) if seen["probed"] else None,
        )

    async def probe(self) -> int:
        """Lets one attempt begin within `PROBE_WITHIN` seconds, whatever the state: its number, by which `view` tells
        what came of it.
        """
        number: int = await self._store.run(_PROBE, [self._key], [_ms(PROBE_WITHIN)])
        return number


_VIEWED = (
    *("state", "until", "why", "held", "ok_at", "trouble", "history"),
    *("opened", "opened_first", "opened_last", "probed"),
)


def _moment(ms: str) -> float:
    return int(ms or 0) / 1000


def _answers(line: str) -> Answers:
    """Of the field `history`, as `_probed` of `probed`: both are described in `lua/circuit.lua`."""
    status, times, first, last = line.split(" ")
    return Answers(_status(status), int(times), _moment(first), _moment(last))


def _probed(text: str) -> Probed:
    number, at, status, why = text.split(" ", 3)
    return Probed(int(number), _moment(at), _status(status), status == "2xx", status == "closed", why)


def _status(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def circuit_key(endpoint: str) -> str:
    return f"sl:{{{endpoint}}}:circuit"


def pace_burst(rate: Rate | None) -> int:
    """How many attempts a pace lets begin at once: those of a second, one at least."""
    return max(1, math.ceil(1 / rate.interval)) if rate else 1


def _report_arguments(generation: int, r: Report) -> tuple[str | int | float, ...]:
    """As arguments of `lua/admit.lua`."""
    ok_at = round(r.ok_at * 1000)
    if not (r.failures or r.refusals):  # nearly all
        return generation, r.successes, 0, 0, 0, 0, r.unused, ok_at, "", "", ""
    keys = "".join(f" {key}" for key in r.keys)
    statuses = "".join(f"{'-' if status is None else status}:{times} " for status, times in r.statuses.items())
    return (
        *(generation, r.successes, r.failures, r.refusals, int(r.paused), _ms(r.min_pause), r.unused, ok_at),
        *(keys, statuses, r.why),
    )


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
