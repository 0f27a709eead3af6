"""Sessions that go from one worker of ours to another, workers that drain, and how many are wanted.

Beside the keys of the registry there are three more, which these scripts alone use: `active`, `unplaced`, and
`scaling`, whose fields are

    noted, watched   when gateways last told what was busy, and since when they have told it without a gap (ms)
    next             when the next move may be made that has a pace (ms)
    most:NAME        of a `sluice up --workers`: up to when this counts (ms), how many workers it has at most, and up to
                     when it starts some if more are wanted (ms)
    moved, moved_…   the session that was sent to another worker last, and from where, to which, by whom and when (ms)
    at               when it was decided last how many workers are wanted (ms); with it the fields of `Decision`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from sessions.rebalancing import Held, Shift
from sessions.records import pairs
from sessions.scaling import Demand, Wanted
from sessions.scripts import KEYS, Scripted, load
from sluice.store.client import Script

ACTIVE_KEY, UNPLACED_KEY, SCALING_KEY = (f"sl:{{sessions}}:{name}" for name in ("active", "unplaced", "scaling"))
KEY_PATTERNS = (ACTIVE_KEY, UNPLACED_KEY, SCALING_KEY)
_KEYS = (*KEYS, *KEY_PATTERNS)
_NOTED, _HELD, _SHIFT = load("noted", adds=True), load("held"), load("shift")
_DRAIN, _SCALING = load("drain"), load("scaling")
PERSON = "a person"
"""What a person's changes are noted under in a session's history."""
_PAGE = 200
_GROWERS = 100
"""`sluice up --workers` of one deployment, at most."""
Shifted = Literal["moved", "changed", "full", "too soon"]


@dataclass(frozen=True, slots=True)
class Decision:
    wanted: Wanted
    demand: Demand


@dataclass(frozen=True, slots=True)
class LastMove:
    session: str
    origin: str
    to: str
    by: str
    ago: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """`now` and `at` in milliseconds since 1970, of the scripts; `at` 0: nothing was decided yet."""

    now: int
    at: int
    unplaced: int
    decision: Decision | None
    last: LastMove | None
    grows: bool
    """Somebody starts workers when more are wanted."""
    most: int | None = None
    """How many all `sluice up --workers` together have at most; None: nobody starts workers by itself."""


class Shifting(Scripted):
    """Methods raise StoreAway or StoreRefused."""

    async def note_activity(self, sessions: Sequence[str], unplaced: Sequence[str], *, complete: bool = True) -> None:
        """Of which sessions something was asked or came; and those whose creates nobody had room for. `complete`
        False: there were more than are named."""
        await self._shifting(_NOTED, int(not complete), len(sessions), *sessions, *unplaced)

    async def held_by(self, worker: str) -> list[Held]:
        """The sessions of a worker of ours, without those that are only reserved. A round trip for each 200."""
        found: list[Held] = []
        for at in range(0, 10_000, _PAGE):
            cells = await self._shifting(_HELD, worker, at, _PAGE, PERSON)
            rows = [[cell.decode() for cell in cells[i : i + 6]] for i in range(0, len(cells), 6)]
            found += [
                Held(session, state, int(fence), int(idle) / 1000, leaving == "1", person == "1")
                for session, state, fence, idle, leaving, person in rows
            ]
            if not rows:
                break
        return found

    async def shift(self, what: Shift, by: str, interval: float = 0.0) -> Shifted:
        """`interval`: seconds before the next one that has a pace may go; 0: this one has none."""
        args = (what.session, what.fence, what.state, what.to, round(what.idle * 1000), round(interval * 1000), by)
        return cast(Shifted, (await self._shifting(_SHIFT, *args)).decode())

    async def drain(self, worker: str) -> bool:
        """It gets no more sessions, and what it has goes to others. False: there is no such worker of ours."""
        return bool(await self._shifting(_DRAIN, worker, 1))

    async def take_back(self, worker: str) -> bool:
        """It does not drain any more. False: there is no such worker of ours."""
        return bool(await self._shifting(_DRAIN, worker, 0))

    async def will_grow(self, name: str, seconds: float, most: int, known_for: float) -> None:
        """For so long this one starts workers when more are wanted, so who finds no room may wait. It has `most` of
        them, which counts for `known_for` seconds."""
        until = round(seconds * 1000), most, round(known_for * 1000)
        await self._shifting(_SCALING, "grow", name, *until, _GROWERS)

    async def scaling(self) -> Scaling:
        now, unplaced, *flat = await self._shifting(_SCALING, "look")
        fields = {name.decode(): value.decode() for name, value in pairs(flat)}
        moment = int(now)
        last, at = _last_move(fields, moment), int(fields.get("at", 0))
        said = [[int(part) for part in text.split()] for name, text in fields.items() if name.startswith("most:")]
        growing = [(most, until > moment) for counts, most, until in said if counts > moment]
        most = sum(most for most, _ in growing) if growing else None
        return Scaling(moment, at, unplaced, _decision(fields), last, any(more for _, more in growing), most)

    async def decide(self, seen: Scaling, decision: Decision) -> bool:
        """False: somebody else has decided since that look."""
        wanted, demand = decision.wanted, decision.demand
        fields = {
            "workers": wanted.workers,
            "low_since": "" if wanted.low_since is None else wanted.low_since,
            "changed": wanted.changed,
            "sessions": demand.sessions,
            "unowned": demand.unowned,
            "unplaced_creates": demand.unplaced,
            "per_worker": demand.per_worker,
            "live": demand.live,
            "full": int(demand.full),
        }
        flat = [part for name, value in fields.items() for part in (name, value)]
        return bool(await self._shifting(_SCALING, "decide", seen.at, *flat))

    async def _shifting(self, script: Script, *args: str | int | float) -> Any:
        return await self._store.run(script, _KEYS, args)


def _decision(fields: Mapping[str, str]) -> Decision | None:
    if "workers" not in fields:
        return None
    low = fields["low_since"]
    wanted = Wanted(int(fields["workers"]), float(low) if low else None, float(fields["changed"]))
    sessions, unowned, unplaced, live = (
        int(fields[name]) for name in ("sessions", "unowned", "unplaced_creates", "live")
    )
    demand = Demand(sessions, unowned, unplaced, float(fields["per_worker"]), live, fields["full"] == "1")
    return Decision(wanted, demand)


def _last_move(fields: Mapping[str, str], now: int) -> LastMove | None:
    if "moved" not in fields:
        return None
    session, origin, to, by = (fields[name] for name in ("moved", "moved_from", "moved_to", "moved_by"))
    return LastMove(session, origin, to, by, max(0.0, (now - int(fields["moved_at"])) / 1000))
