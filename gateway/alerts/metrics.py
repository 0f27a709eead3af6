"""What is counted of messages to receivers of alerts."""

from __future__ import annotations

from sluice.observe.metrics import counts

_SENT = counts("sluice_alerts_sent_total", "Alerts that a receiver was told.", ["receiver", "event"])
_FAILED = counts("sluice_alerts_failed_total", "Messages that a receiver of alerts did not take.", ["receiver"])


def sent(receiver: str, event: str) -> None:
    _SENT.add(receiver, event)


def failed(receiver: str) -> None:
    _FAILED.add(receiver)
