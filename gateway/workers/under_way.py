"""Requests that workers have not answered yet, by what may end the waiting for them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.proxy.upstream import Downstream
from gateway.workers.target import Target


class UnderWay:
    """Of one process."""

    def __init__(self) -> None:
        self._by_session: dict[str, dict[Downstream, Target]] = {}
        self._by_worker: dict[str, dict[Downstream, float]] = {}

    def add(self, client: Downstream, target: Target, session: str) -> None:
        """`session`: that it is about; empty: it goes on when somebody else gets that."""
        if session:
            self._by_session.setdefault(session, {})[client] = target
        if not target.existing:
            self._by_worker.setdefault(target.worker, {})[client] = time.monotonic()

    def remove(self, client: Downstream, target: Target, session: str) -> None:
        if session:
            of_session = self._by_session[session]
            del of_session[client]
            if not of_session:
                del self._by_session[session]
        if not target.existing:
            at_worker = self._by_worker[target.worker]
            del at_worker[client]
            if not at_worker:
                del self._by_worker[target.worker]

    def about(self, session: str) -> Sequence[tuple[Downstream, Target]]:
        return [*self._by_session.get(session, {}).items()]

    def at(self, worker: str) -> Sequence[Downstream]:
        """A worker that holds a lease."""
        return [*self._by_worker.get(worker, {})]

    def any_since(self, moment: float) -> bool:
        """Whether any worker that holds a lease was asked before this moment (`time.monotonic`)."""
        return any(next(iter(clients.values())) < moment for clients in self._by_worker.values())
