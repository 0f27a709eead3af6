"""One message to one receiver, whichever way it has."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.alerts import command, rendering, smtp, webhook
from gateway.alerts.decide import Due
from gateway.alerts.failed import SendFailed as SendFailed
from gateway.policies import Policies, Receiver

TIMEOUT = 15.0
"""Seconds for all of it."""


async def send(policies: Policies, receiver: Receiver, dues: Sequence[Due], now: float, gateway: str) -> str:
    """What came back. `dues` empty: a test. Raises SendFailed."""
    if receiver.mail:
        server = policies.alerts.mail
        if server is None:
            raise SendFailed("there is no alerts.mail any more")
        about = (now, gateway, server.sender, receiver.mail)
        message = rendering.mail(dues, *about) if dues else rendering.test_mail(*about)
        return await smtp.deliver(server, message, receiver.mail, TIMEOUT)
    body = rendering.payload(dues, now, gateway) if dues else rendering.test_payload(now, gateway)
    if receiver.command:
        return await command.run(receiver.command, body, TIMEOUT)
    assert receiver.webhook is not None
    signature = policies.signatures[receiver.sign] if receiver.sign else None
    return await webhook.post(receiver.webhook, body, signature, TIMEOUT)
