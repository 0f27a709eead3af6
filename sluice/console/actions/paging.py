"""Where a page of events ends and the next one begins, and of which endpoints there are events at all."""

from __future__ import annotations

import base64
import binascii

from relay.queue import endpoints
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, invalid, unknown_endpoint


def cursor(endpoint: str, *numbers: int, entry_id: bytes) -> str:
    """A place behind which a page begins; `read_cursor` reads it."""
    parts = [endpoint.encode(), *(b"%d" % one for one in numbers), entry_id]
    return base64.urlsafe_b64encode(b"/".join(parts)).decode()


def read_cursor(text: str, numbers: int) -> tuple[str, list[int], bytes] | Problem:
    """Endpoint, so many numbers, and entry id."""
    try:
        endpoint, *middle, entry_id = base64.urlsafe_b64decode(text.encode()).split(b"/", numbers + 1)
        if len(middle) != numbers:
            raise ValueError(middle)
        return endpoint.decode(), [int(one) for one in middle], entry_id
    except (ValueError, binascii.Error):
        return invalid(f"after is {quoted(text)}, which is not the next of a page; leave it out to begin anew")


async def endpoint_names(deployment: Deployment, endpoint: str | None) -> list[str] | Problem:
    """All that the policies name or that have something in the store, in order; or the one that is meant."""
    names = sorted({*deployment.policies.relay.endpoints, *await endpoints.names(deployment.store)})
    if endpoint is None:
        return names
    return [endpoint] if endpoint in names else unknown_endpoint(endpoint, names)
