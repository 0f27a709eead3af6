"""What is allowed and still worth a word: the warnings of `sluice check`."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.policies.model import Policies, ToRelay


def remarks(policies: Policies) -> Iterator[str]:
    for name in sorted(policies.signatures.keys() - _signatures_used(policies)):
        yield f"signatures.{name}: never used"
    for index, route in enumerate(policies.routes):
        if isinstance(route.action, ToRelay) and route.verify is None:
            yield f"routes[{index}]: relays without verify; anybody can post events"
    if policies.console.token is None:
        yield "console: no token; the console and admin API are closed"


def _signatures_used(policies: Policies) -> set[str | None]:
    verified = {route.verify for route in policies.routes} | {policies.sessions.verify}
    return verified | {endpoint.sign for endpoint in policies.relay.endpoints.values()}
