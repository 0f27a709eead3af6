"""What a person should know now, in sentences. Pure: a status comes in; nothing to say means that all is well.

One file for each topic. Every sentence is in docs/operations.md, with what to do; `tests/test_operations.py` compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relay.policies import OUTBOX
from sluice.console.messages.alerts import alerts
from sluice.console.messages.cleanup import cleanup
from sluice.console.messages.deployment import clock, policies, relays, store_away
from sluice.console.messages.division import division
from sluice.console.messages.endpoints import endpoints
from sluice.console.messages.faults import faults
from sluice.console.messages.handled import handled
from sluice.console.messages.listeners import handshakes, listeners, reserved, unserved
from sluice.console.messages.machine import machine
from sluice.console.messages.outbox import outbox
from sluice.console.messages.scaling import scaling
from sluice.console.messages.sessions import past_us, rivals, sessions
from sluice.console.messages.traffic import traffic
from sluice.console.messages.upstreams import upstreams
from sluice.console.messages.vault import vault
from sluice.console.messages.wording import age
from sluice.console.status import Status

__all__ = ["age", "messages", "topics"]


def _waiting_sends(status: Status) -> int:
    sends = status.endpoints.get(OUTBOX)
    return (sends.waiting or 0) if sends is not None else 0


def messages(status: Status) -> list[tuple[str, str]]:
    """Topic and sentence. What stops everything first, what waits for a person before what passes by itself."""
    return [(topic, sentence) for topic, sentences in topics(status) for sentence in sentences]


def topics(status: Status) -> Iterator[tuple[str, Iterable[str]]]:
    """The same, by what it is about: the name of a topic stays what it is, whatever numbers its sentences say."""
    yield "store", store_away(status.store)
    yield "relays", relays(status)
    yield "policies", policies(status)
    yield "clock", clock(status.clock_jump)
    yield "listeners", unserved(status.unserved)
    yield "listeners", listeners(status.listeners)
    yield "listeners", handshakes(status.last_minute.handshakes, status.listeners)
    for name, upstream in status.upstreams.items():
        yield f"upstream {name}", upstreams({name: upstream})
    for name, endpoint in status.endpoints.items():
        yield f"endpoint {name}", endpoints({name: endpoint}, (), status.at)
    for name, recent in status.last_minute.handled.items():
        yield f"endpoint {name}", handled(name, recent)
    for one in status.removed:
        yield f"endpoint {one.endpoint}", endpoints({}, (one,), status.at)
    yield "outbox", outbox(status.outbox, _waiting_sends(status), status.last_minute.outbox.get("unknown", 0))
    yield "traffic", traffic(status.last_minute, store_answers=status.store.ok)
    yield "console", reserved(status.last_minute.reserved)
    yield "sessions", sessions(status.workers, status.sessions, status.existing)
    yield "scaling", scaling(status.scaling, status.workers)
    yield "faults", faults(status.faults)
    yield "vault", vault(status.vault, status.store)
    yield "phones", rivals(status.rivals, keep=status.one_phone, enforced=status.one_phone_enforced)
    yield "cleanup", cleanup(status.cleanup, status.untold, status.at)
    yield "advertise", past_us(status.existing, status.advertise)
    yield "division", division(status.division)
    yield "machine", machine(status)
    yield "alerts", alerts(status.alerts)
