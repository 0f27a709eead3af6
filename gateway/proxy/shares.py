"""How many of an upstream's connections the clients of one address may use at once.

Without it one address closes an upstream to everybody: its connections are few, and a client that reads slowly keeps
one for as long as it likes.
"""

from __future__ import annotations

import time

from gateway import metrics
from gateway.client_ip import Client
from gateway.policies import Policies
from gateway.problems import Refusal


class ShareRule:
    """What the policies say of it, for all upstreams; an edit counts at once."""

    def __init__(self, policies: Policies) -> None:
        self.apply(policies)

    def apply(self, policies: Policies) -> None:
        self._share = policies.clients.share
        self._exempted = policies.clients.exempted(policies.trust)

    def most(self, connections: int) -> int:
        """Of so many; one at least."""
        return max(1, int(self._share * connections))

    def exempts(self, client: Client) -> bool:
        return self._exempted.holds(client.address, time.time())


class Shares:
    """Of one upstream, which has `connections` at most. What is counted is bounded by what is under way."""

    def __init__(self, upstream: str, connections: int, rule: ShareRule) -> None:
        self._upstream = upstream
        self._connections = connections
        self._rule = rule
        self._used: dict[str, int] = {}

    def take(self, client: Client) -> None:
        """For one request, until `give_back`. Raises Refusal 503."""
        used = self._used.get(client.subject, 0)
        if used and used >= self._rule.most(self._connections) and not self._rule.exempts(client):
            metrics.share_refused(self._upstream)
            raise Refusal(
                503,
                f"{client.text} has its share of the connections to {self._upstream}, {used} of {self._connections} "
                "(clients.share); if it is a proxy or an office of yours, name it in trust.proxies, or in a list of "
                "clients.exempt",
                retry_after=b"1",
            )
        self._used[client.subject] = used + 1

    def give_back(self, client: Client) -> None:
        left = self._used[client.subject] - 1
        if left:
            self._used[client.subject] = left
        else:
            del self._used[client.subject]
