"""With whose certificates https to an upstream is trusted."""

from __future__ import annotations

import ssl

from gateway.policies import Upstream
from sluice.http import client as http1


def context_of(upstream: Upstream) -> ssl.SSLContext | None:
    """None: it is not spoken to by https. `ca`, where it is given, takes the place of the system's authorities."""
    if http1.Origin.of(upstream.url).scheme != "https":
        return None
    authorities = upstream.ca.reveal().decode() if upstream.ca else None
    return ssl.create_default_context(cadata=authorities or None)
