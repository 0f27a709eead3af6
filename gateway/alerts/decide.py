"""What is wrong, the rules and what was told before: what to tell now, and what to remember. Pure.

An alert is one thing that is wrong by one rule: `circuit_open` of the endpoint laravel. It **fires** when it has lasted
for `for`, and it is over when it was well for as long, five minutes at most: so what comes and goes is told once. Each
receiver is told of it once, again each `repeat`, and once that it is over; whoever was not told of it is not told that.
While it is silenced nobody is told anything of it, and what is due then is told after.

Whether a receiver was told is known when it took the message (`after`), so what could not be sent is due again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

from gateway.policies import AlertPolicy, Rule

MAX_SETTLING = 300.0
GIVE_UP = 86400.0
"""Seconds after which a receiver that takes nothing is not told any more that something is over."""
MAX_ALERTS = 500
"""What is wrong beyond so many is not remembered, so not told."""
Event = Literal["firing", "still_firing", "resolved"]
Key = tuple[str, str, str]
"""The id of a rule, the subject, and the machine."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that may be wrong."""

    kind: str
    subject: str
    """Name of an endpoint, upstream, limit, worker or session; empty: it is about all."""
    text: str
    """What is wrong and what to do, in a sentence."""
    value: float = float("inf")
    """Its measure, in seconds, share or number, to be compared with `over` of a rule; inf: it is wrong in any case."""
    machine: str = ""
    """On which it is wrong; empty: it is about all of them."""

    def __post_init__(self) -> None:
        """Halves of surrogate pairs can be neither stored nor sent."""
        for name in ("subject", "text"):
            object.__setattr__(self, name, getattr(self, name).encode("utf-8", "replace").decode())


@dataclass(frozen=True, slots=True)
class Seen:
    found: Sequence[Found]
    unknown: frozenset[str] = frozenset()
    """Kinds of which nothing is known now, as the store does not answer."""
    here: str | None = None
    """The only machine of which something is known, for the same reason; None: what each of them says is known."""

    def knows(self, alert: Alert) -> bool:
        """Whether what is not found any more is over."""
        return alert.kind not in self.unknown and (self.here is None or alert.machine in ("", self.here))


@dataclass(frozen=True, slots=True)
class Silence:
    """Of alerts of a kind whose subject is like `subject`, until a moment (unix seconds)."""

    kind: str
    """`*`: of every kind."""
    subject: str
    """A glob."""
    until: float
    why: str = ""

    def covers(self, kind: str, subject: str, now: float) -> bool:
        return self.until > now and self.kind in ("*", kind) and is_like(subject, self.subject)


@dataclass(frozen=True, slots=True)
class Alert:
    """Moments are unix seconds."""

    rule: str
    subject: str
    text: str
    since: float
    """When it began."""
    fires: bool = False
    well_since: float | None = None
    """None: it is wrong."""
    notified: Mapping[str, float] = field(default_factory=dict)
    """When each receiver was told last; who is not in it was not told, or was told that it is over."""
    machine: str = ""
    """As of what was found."""

    @property
    def key(self) -> Key:
        return self.rule, self.subject, self.machine

    @property
    def kind(self) -> str:
        return kind_of(self.rule)


Alerts = Mapping[Key, Alert]


@dataclass(frozen=True, slots=True)
class Due:
    """A receiver is to be told this now."""

    receiver: str
    event: Event
    alert: Alert


def is_like(name: str, glob: str) -> bool:
    return name == glob or fnmatchcase(name, glob)


def kind_of(rule: str) -> str:
    return rule.partition("#")[0]


def decide(
    seen: Seen, policy: AlertPolicy, alerts: Alerts, silences: Collection[Silence], now: float
) -> tuple[list[Due], Alerts]:
    rules = dict(zip(policy.ids, policy.rules, strict=True))
    pairs = [(name, one) for name, rule in rules.items() for one in seen.found if _is_wrong(one, rule)]
    wrong = {(name, one.subject, one.machine): one for name, one in pairs}
    next_: dict[Key, Alert] = {}
    for key, alert in alerts.items():
        rule = rules.get(alert.rule)
        kept = replace(alert, notified={name: at for name, at in alert.notified.items() if name in policy.receivers})
        if rule is None:
            kept = replace(kept, fires=False, well_since=kept.well_since or now)
        elif key in wrong:
            kept = _wrong(kept, wrong[key], rule, now)
        elif seen.knows(alert):
            kept = _well(kept, rule, now)
        given_up = kept.well_since is not None and now - kept.well_since > GIVE_UP
        if kept.well_since is None or kept.fires or (kept.notified and not given_up):
            next_[key] = kept
    for key, found in wrong.items():
        if key not in next_ and len(next_) < MAX_ALERTS:
            begun = Alert(key[0], key[1], found.text, now, machine=key[2])
            next_[key] = _wrong(begun, found, rules[key[0]], now)
    dues = [
        due
        for key, alert in next_.items()
        if not is_silenced(alert, silences, now)
        for due in _due(alert, rules[alert.rule] if key in wrong else None, now)
    ]
    return dues, next_


def after(alerts: Alerts, sent: Iterable[Due], now: float) -> Alerts:
    """When these were taken. Of what is over meanwhile, whoever was told just now hears that next."""
    next_ = dict(alerts)
    for due in sent:
        key = due.alert.key
        alert = next_.get(key) or replace(due.alert, fires=False, well_since=now)
        notified = {name: at for name, at in alert.notified.items() if name != due.receiver}
        if due.event != "resolved":
            notified[due.receiver] = now
        next_[key] = replace(alert, notified=notified)
        if not notified and not alert.fires and alert.well_since is not None:
            del next_[key]
    return next_


def is_silenced(alert: Alert, silences: Collection[Silence], now: float) -> bool:
    return any(one.covers(alert.kind, alert.subject, now) for one in silences)


def _is_wrong(found: Found, rule: Rule) -> bool:
    named = not rule.only or any(is_like(found.subject, glob) for glob in rule.only)
    return found.kind == rule.when and found.value > rule.over and named


def _wrong(alert: Alert, found: Found, rule: Rule, now: float) -> Alert:
    """One that was over and is wrong again begins anew."""
    since = now if alert.well_since is not None and not alert.fires else alert.since
    fires = alert.fires or now - since >= rule.hold
    return replace(alert, text=found.text, since=since, fires=fires, well_since=None)


def _well(alert: Alert, rule: Rule, now: float) -> Alert:
    well_since = now if alert.well_since is None else alert.well_since
    fires = alert.fires and now - well_since < min(rule.hold, MAX_SETTLING)
    return replace(alert, fires=fires, well_since=well_since)


def _due(alert: Alert, rule: Rule | None, now: float) -> Iterable[Due]:
    """`rule`: None where it is well now, or nobody knows: then nobody hears that it fires."""
    if alert.fires and rule is not None:
        for name in rule.to:
            last = alert.notified.get(name)
            if last is None:
                yield Due(name, "firing", alert)
            elif rule.repeat and now - last >= rule.repeat:
                yield Due(name, "still_firing", alert)
    elif not alert.fires and alert.well_since is not None:
        for name in alert.notified:
            yield Due(name, "resolved", alert)
