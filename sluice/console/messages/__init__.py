"""What a person should know now, in sentences. Pure: a status comes in; nothing to say means that all is well.

One file for each topic. Every sentence is in docs/operations.md, with what to do; `tests/test_operations.py` compares.
"""

from __future__ import annotations

from sluice.console.messages.deployment import deployment
from sluice.console.messages.division import division
from sluice.console.messages.endpoints import endpoints
from sluice.console.messages.listeners import handshakes, listeners, reserved, unserved
from sluice.console.messages.machine import machine
from sluice.console.messages.sessions import past_us, rivals, sessions
from sluice.console.messages.traffic import traffic
from sluice.console.messages.upstreams import upstreams
from sluice.console.messages.vault import vault
from sluice.console.messages.wording import age
from sluice.console.status import Status

__all__ = ["age", "messages"]


def messages(status: Status) -> list[str]:
    """What stops everything first, what waits for a person before what passes by itself."""
    return [
        *deployment(status),
        *unserved(status.unserved),
        *listeners(status.listeners),
        *handshakes(status.last_minute.handshakes, status.listeners),
        *upstreams(status.upstreams),
        *endpoints(status.endpoints, status.removed, status.at),
        *traffic(status.last_minute, store_answers=status.store.ok),
        *reserved(status.last_minute.reserved),
        *sessions(status.workers, status.sessions, status.existing),
        *vault(status.vault, status.store),
        *rivals(status.rivals, enforced=status.one_phone_enforced),
        *past_us(status.existing, status.advertise),
        *division(status.division),
        *machine(status),
    ]
