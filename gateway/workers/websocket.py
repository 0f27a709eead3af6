"""WebSockets of a session: opened at the worker that has it, and closed when another one gets it."""

from __future__ import annotations

from gateway.policies import Upstream
from gateway.proxy.websocket import ClientSide, NotTheOne, WorkerWebSocket
from gateway.workers.reach import Reach
from gateway.workers.streams import Streams
from gateway.workers.target import FENCE, Target
from sessions.keys import strange


class SessionWebSocket:
    """A destination of WebSockets (`gateway.proxy.websocket`): whoever has the session, found as by a request."""

    def __init__(self, session: str, reach: Reach, streams: Streams, timeouts: Upstream) -> None:
        self._session = session
        self._reach = reach
        self._streams = streams
        self._timeouts = timeouts

    async def proxy(self, client: ClientSide) -> None:
        """Until both sides are closed. Raises Refusal, ClientGone, and what the worker denies it with."""

        async def ask(target: Target) -> bool | None:
            t = self._timeouts
            fence = [] if target.fence is None else [(FENCE, b"%d" % target.fence)]
            worker = WorkerWebSocket(
                target.worker, Upstream("workers", target.url, t.connect, t.headers, t.idle), fence, strange
            )
            try:
                with self._streams.open(self._session, target.worker, worker.moved):
                    await worker.proxy(client)
            except NotTheOne:
                return None
            return True

        await self._reach.through(self._session, ask)
