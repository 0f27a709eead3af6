"""What is wrong with a session that somebody runs. Pure.

    silent      It is connected and was sent something, which brings an event each time (the message's own, its
                receipt), and no event of it has come for `silent` since. Who is sent nothing, as at night, is not
                silent; nor is one of whom no event was ever heard, as its worker may send them elsewhere.
    flapping    Its connection was lost as often as `flapping` says.
    a state     It is starting, qr_scanning, authenticated or disconnected for longer than the policies give it.

A fault is over when it is well: connected again, none of these, and an event has come where it was silent. On the way
there, such as while it is started anew, it is not; nor while nobody runs it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sessions.lifecycle.policies import Kind, Watch
from sessions.lifecycle.stale import spell
from sessions.records import SessionRow
from sessions.watched import IN_FLIGHT, WhyNot

_STATES: tuple[Kind, ...] = ("starting", "qr_scanning", "authenticated", "disconnected")


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    since: float
    """Unix seconds."""
    reason: str


def fault_of(row: SessionRow, policy: Watch, now: float) -> Fault | None:
    """`now`: unix seconds, by the clock of the scripts. None: nothing is wrong with it, or nobody runs it."""
    if row.worker is None or row.ended or row.missing_since is not None:
        return None
    return _flapping(row, policy, now) or _silent(row, policy, now) or _stuck(row, policy, now)


def is_over(row: SessionRow, policy: Watch, now: float) -> str | None:
    """How the fault that was noted of it is over, in words; None: it is not."""
    if row.ended:
        return "it was ended"
    if row.worker is None or row.missing_since is not None or fault_of(row, policy, now) is not None:
        return None
    if row.state == "connected":
        was_silent = row.fault is not None and row.fault.kind == "silent"
        heard = row.signs.heard is not None and row.fault is not None and row.signs.heard > row.fault.noted
        return None if was_silent and not heard else "it is connected, and does well"
    return None if _is_on_its_way(row.state, policy) else f"it is {row.state}"


def why_not_restarted(row: SessionRow, fault: Fault, policy: Watch, now: float) -> WhyNot | None:
    """Why it is not restarted now, though its kind of fault is one to be cured by that; None: it is."""
    signs = row.signs
    if signs.restarting_until is not None and now < signs.restarting_until:
        return "restarting"
    if signs.sending is not None and now - signs.sending < IN_FLIGHT:
        return "sending"
    lately = [moment for moment in signs.restarts if now - moment < policy.restarts.period]
    if len(lately) >= policy.restarts.amount:
        return "limited"
    # What a restart has cured, or has not, is known after the time in which such a fault is found.
    if signs.restarts and now - signs.restarts[-1] < (policy.bound(fault.kind) or 0.0):
        return "restarting"
    return None


def _flapping(row: SessionRow, policy: Watch, now: float) -> Fault | None:
    rate = policy.flapping
    if rate is None:
        return None
    lately = [moment for moment in row.signs.lost if now - moment < rate.period]
    if len(lately) < rate.amount:
        return None
    return Fault("flapping", lately[0], f"it lost its connection {len(lately)} times in {spell(rate.period)}")


def _silent(row: SessionRow, policy: Watch, now: float) -> Fault | None:
    heard, sent = row.signs.heard, row.signs.sent
    if policy.silent is None or row.state != "connected" or heard is None or sent is None:
        return None
    if sent <= max(heard, row.since) or now - sent < policy.silent:
        return None
    return Fault("silent", sent, f"it was sent something {spell(now - sent)} ago, and no event of it has come since")


def _stuck(row: SessionRow, policy: Watch, now: float) -> Fault | None:
    kind = next((one for one in _STATES if one == row.state), None)
    bound = None if kind is None else policy.bound(kind)
    if kind is None or bound is None or now - row.since < bound:
        return None
    return Fault(kind, row.since, f"it is {row.state} for {spell(now - row.since)}")


def _is_on_its_way(state: str, policy: Watch) -> bool:
    """To being connected, or to a fault of that state: what is not watched waits for a person."""
    return any(state == one and policy.bound(one) is not None for one in _STATES)
