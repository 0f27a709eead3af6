"""Receivers of alerts that are not told, and rules that tell nobody anything."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.console.messages.wording import age, some
from sluice.console.status import AlertReceiverStatus, AlertsStatus


def alerts(status: AlertsStatus | None) -> Iterator[str]:
    if status is None:
        return
    yield from map(_failing, status.failing)
    if status.full:
        yield (
            "so much is wrong by alerts.rules that what comes now is told to nobody: cure what sluice alerts list "
            "names, or let the rules name less (only)"
        )
    for rule in status.never:
        yield f"{rule}: correct the rule, or take it out; sluice check names it, too"


def _failing(receiver: AlertReceiverStatus) -> str:
    times = some(receiver.failures, "message", "messages")
    if receiver.receiver.startswith("("):
        return (
            f"the heartbeat of alerts is not taken for {age(receiver.failing_s)} ({receiver.why}), so its service will "
            "tell that Sluice is down: correct alerts.heartbeat.url"
        )
    return (
        f"receiver {receiver.receiver} of alerts has not taken {times} for {age(receiver.failing_s)} "
        f"({receiver.why}), so what is wrong is not told there: correct it, and try it with sluice alerts test "
        f"{receiver.receiver}"
    )
