"""Alerts: the rules, what is wrong by them, who was told, silences, and a test of each receiver."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Literal

from gateway.alerts import board
from gateway.alerts.board import Memory, Notification
from gateway.alerts.decide import Alert, Event, Silence, is_silenced
from gateway.alerts.failed import SendFailed
from gateway.alerts.send import send
from gateway.alerts.webhook import beat
from gateway.policies import KINDS, Policies, Receiver, Rule
from gateway.policies.alert_warnings import never_fire
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind, invalid, moment, not_found
from sluice.http.decode import Bounds

HEARTBEAT = "heartbeat"
_BEAT_TIMEOUT = 10.0
_DAY = 86400


@dataclass(frozen=True, slots=True)
class ListAlerts:
    history: Annotated[int, Bounds(0, 200)] = 50
    """The most entries of what was told last."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    id: str
    """Its kind, with a number from the second of a kind on."""
    kind: str
    over: float | None
    """In seconds, as a share or a number; null: it has no threshold."""
    for_s: float
    repeat_s: float
    """0: it is told once."""
    to: tuple[str, ...]
    only: tuple[str, ...]
    never: str | None
    """Why it cannot fire; null: it can."""


@dataclass(frozen=True, slots=True)
class AlertReceiver:
    receiver: str
    way: Literal["webhook", "mail", "command"]
    to: str
    """Without what is secret in an address."""
    taken_at: datetime | None
    """When it took a message last; null: it has not had any since it failed."""
    failing_since: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class CurrentAlert:
    rule: str
    kind: str
    subject: str
    machine: str | None
    """On which it is wrong; null: it is about all of them."""
    text: str
    since: datetime
    state: Literal["pending", "firing", "settling", "over"]
    """pending: not for long enough; settling: well, not for long enough; over: well, and not everybody knows yet."""
    silenced: bool
    notified: Mapping[str, datetime]
    """When each receiver was told last."""


@dataclass(frozen=True, slots=True)
class AlertSilence:
    kind: str
    subject: str
    until: datetime
    why: str


@dataclass(frozen=True, slots=True)
class AlertNotification:
    at: datetime
    receiver: str
    event: Event
    kind: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class AlertList:
    rules: tuple[AlertRule, ...]
    receivers: tuple[AlertReceiver, ...]
    alerts: tuple[CurrentAlert, ...]
    """The oldest first."""
    silences: tuple[AlertSilence, ...]
    history: tuple[AlertNotification, ...]
    """The newest first."""


async def list_alerts(deployment: Deployment, request: ListAlerts) -> AlertList | Problem:
    """The rules and receivers, what is wrong by them, silences, and what was told last."""
    memory, silences, history = await board.look(deployment.store)
    policies, now = deployment.policies, time.time()
    held = tuple(one for one in silences if one.until > now)
    alerts = sorted(memory.alerts.values(), key=lambda one: (one.since, one.rule, one.subject))
    return AlertList(
        rules=_rules(policies),
        receivers=tuple(_receiver(one, memory) for one in policies.alerts.receivers.values()),
        alerts=tuple(_alert(one, is_silenced(one, held, now)) for one in alerts),
        silences=tuple(AlertSilence(one.kind, one.subject, moment(one.until), one.why) for one in held),
        history=tuple(map(_notification, history[: request.history])),
    )


def _rules(policies: Policies) -> tuple[AlertRule, ...]:
    reasons = dict(one.split(": ", 1) for one in never_fire(policies))
    pairs = zip(policies.alerts.ids, policies.alerts.rules, strict=True)
    return tuple(_rule(id_, rule, reasons.get(f"alerts.rules[{at}]")) for at, (id_, rule) in enumerate(pairs))


def _rule(id_: str, rule: Rule, never: str | None) -> AlertRule:
    return AlertRule(id_, rule.when, rule.threshold, rule.hold, rule.repeat, rule.to, rule.only, never)


def _receiver(receiver: Receiver, memory: Memory) -> AlertReceiver:
    state = memory.receivers.get(receiver.name)
    return AlertReceiver(
        receiver.name,
        receiver.kind,
        receiver.shown,
        moment(state.taken_at) if state and state.taken_at else None,
        moment(state.failing_since) if state and state.failing_since else None,
        state.why if state else "",
    )


def _alert(alert: Alert, silenced: bool) -> CurrentAlert:
    notified = {name: moment(at) for name, at in alert.notified.items()}
    well = alert.well_since is not None
    state: Literal["pending", "firing", "settling", "over"]
    state = ("settling" if well else "firing") if alert.fires else ("over" if well else "pending")
    since = moment(alert.since)
    return CurrentAlert(
        alert.rule, alert.kind, alert.subject, alert.machine or None, alert.text, since, state, silenced, notified
    )


def _notification(one: Notification) -> AlertNotification:
    return AlertNotification(moment(one.at), one.receiver, one.event, one.kind, one.subject, one.text)


# --- silences


@dataclass(frozen=True, slots=True)
class SilenceAlerts:
    kind: str
    """One of the kinds that a rule can name, or `*` for all."""
    seconds: Annotated[int, Bounds(60, 30 * _DAY)]
    subject: Annotated[str, Bounds(1, 200)] = "*"
    """A name or glob of endpoints, upstreams, limits, workers or sessions."""
    why: Annotated[str, Bounds(0, 500)] = ""
    """For whoever looks at it."""


@dataclass(frozen=True, slots=True)
class UnsilenceAlerts:
    kind: str
    subject: Annotated[str, Bounds(1, 200)] = "*"


@dataclass(frozen=True, slots=True)
class Silenced:
    kind: str
    subject: str
    until: datetime | None
    """Null: it is not silenced any more."""


async def silence(deployment: Deployment, request: SilenceAlerts) -> Silenced | Problem:
    """Tell nobody of this for a while; what is due then is told after. The same once more changes its end."""
    if problem := _unknown_kind(request.kind):
        return problem
    until = float(round(time.time()) + request.seconds)
    made = Silence(request.kind, request.subject, until, request.why)
    if await board.silence(deployment.store, request.kind, request.subject, made) < 0:
        message = f"there are {board.MAX_SILENCES} silences already; end one of them: sluice alerts unsilence KIND"
        return Problem(ProblemKind.CONFLICT, message)
    return Silenced(request.kind, request.subject, moment(until))


async def unsilence(deployment: Deployment, request: UnsilenceAlerts) -> Silenced | Problem:
    """Tell of it again."""
    if not await board.silence(deployment.store, request.kind, request.subject, None):
        what = quoted(request.kind) + (f" of {quoted(request.subject)}" if request.subject != "*" else "")
        return not_found(f"{what} is not silenced; sluice alerts list shows what is")
    return Silenced(request.kind, request.subject, None)


def _unknown_kind(kind: str) -> Problem | None:
    if kind == "*" or kind in KINDS:
        return None
    close = get_close_matches(kind, KINDS, n=1)
    cure = f"did you mean {close[0]}" if close else f"there are * for all, {', '.join(KINDS)}"
    return invalid(f"no alert is called {quoted(kind)}; {cure}")


# --- tests


@dataclass(frozen=True, slots=True)
class TestAlerts:
    receiver: str | None = None
    """Only this one; `heartbeat`: only that."""


@dataclass(frozen=True, slots=True)
class TestedReceiver:
    receiver: str
    taken: bool
    said: str
    """What came back, or why nothing did."""


@dataclass(frozen=True, slots=True)
class TestedAlerts:
    receivers: tuple[TestedReceiver, ...]


async def test(deployment: Deployment, request: TestAlerts) -> TestedAlerts | Problem:
    """Send each receiver a message that is marked as a test, and the heartbeat, and say what came back."""
    alerts = deployment.policies.alerts
    names = [*alerts.receivers, *((HEARTBEAT,) if alerts.heartbeat else ())]
    if not names:
        return not_found("there is no receiver; write one below alerts.receivers in the policies")
    if request.receiver is not None and request.receiver not in names:
        return not_found(f"there is no receiver {quoted(request.receiver)}; there are {', '.join(names)}")
    wanted = names if request.receiver is None else [request.receiver]
    return TestedAlerts(tuple(await asyncio.gather(*(_test(deployment.policies, name) for name in wanted))))


async def _test(policies: Policies, name: str) -> TestedReceiver:
    receiver, heartbeat = policies.alerts.receivers.get(name), policies.alerts.heartbeat
    try:
        if receiver is not None:
            return TestedReceiver(name, True, await send(policies, receiver, [], time.time(), socket.gethostname()))
        assert heartbeat is not None
        return TestedReceiver(name, True, await beat(heartbeat.url, _BEAT_TIMEOUT))
    except SendFailed as failed:
        return TestedReceiver(name, False, str(failed))
