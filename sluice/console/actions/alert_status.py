"""The alerts in the status: how telling them goes."""

from __future__ import annotations

from gateway.alerts.board import Known
from gateway.alerts.decide import MAX_ALERTS
from gateway.policies import Policies
from gateway.policies.alert_warnings import never_fire
from sluice.console.status import AlertReceiverStatus, AlertsStatus


def alert_status(policies: Policies, known: Known | None) -> AlertsStatus | None:
    if not policies.alerts.rules and policies.alerts.heartbeat is None:
        return None
    never = tuple(never_fire(policies))
    if known is None:
        return AlertsStatus(0, 0, never=never)
    failing = (
        AlertReceiverStatus(name, max(0.0, known.now - state.failing_since), state.failures, state.why)
        for name, state in sorted(known.memory.receivers.items())
        if state.failing_since is not None
    )
    return AlertsStatus(
        firing=sum(alert.fires for alert in known.memory.alerts.values()),
        silences=sum(silence.until > known.now for silence in known.silences),
        failing=tuple(failing),
        never=never,
        full=len(known.memory.alerts) >= MAX_ALERTS,
    )
