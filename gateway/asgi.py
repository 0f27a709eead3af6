"""The gateway as a Starlette application, for any ASGI server: `gateway.asgi.create("policies.yaml")`.

What only our own server enforces, and how to serve, mount and wrap it: docs/asgi.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from gateway import app
from gateway.app import Console, Observe, nothing_seen
from gateway.policies import Policies, load
from gateway.problems import Receive, Refusal, Send, answer_refusal
from gateway.reload import Reloader
from gateway.resources import Resources
from sluice.http.request_id import new_line
from sluice.http.server.certificates import Certificate
from sluice.observe import log as logs
from sluice.process import embedded_store, files
from sluice.process.addresses import EMBEDDED, store_url
from sluice.store import durability, embedded, layout

LOG = logs.Log("gateway")
_STORE_ANSWERS_WITHIN = 10.0
_NOT_OPEN = Refusal(
    503, "the gateway is not open: its lifespan has not run, or has ended; see the log", retry_after=b"5"
)


def no_console(_: Resources) -> list[BaseRoute]:
    """The reserved paths without the console: health, metrics, publishing and the workers' API."""
    return []


def create(
    policies: Policies | Path | str,
    console: Console = no_console,
    certificates: Sequence[Certificate] = (),
    observe: Observe = nothing_seen,
) -> Application:
    """The gateway that these policies, or this file of them, describe. Nothing is opened before its lifespan.

    `console`: the routes under `/_sluice/` beside health, metrics, publishing and the workers' API; those of the
    console are `sluice.console.http.routes`. `certificates`: those that its own server has, for `status`. `observe`:
    how it finds out what is wrong, for alerts: `sluice.console.alerting.observe`. Raises PolicyError for a file that is
    wrong.
    """
    if not isinstance(policies, Policies):
        policies = load(Path(policies))
    return Application(policies, console, certificates, observe)


class Application(Starlette):
    """Routes and middleware may be added as to any Starlette application; what no route takes goes to the gateway.

    The lifespan opens the gateway and closes it in order. With `store: {url: embedded}` it starts the store too, unless
    another process runs it (`sluice up`, or another worker of the same server), and stops what it has started.
    """

    def __init__(
        self,
        policies: Policies,
        console: Console,
        certificates: Sequence[Certificate] = (),
        observe: Observe = nothing_seen,
    ) -> None:
        super().__init__(lifespan=self._lifespan)
        self.router.default = self._answer
        self.policies = policies
        self._console = console
        self._certificates = certificates
        self._observe = observe
        self._gateway: Reloader | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Reloader]:
        """All but the store, which has to answer already. A loop of the gateway that crashes ends the block."""
        try:
            url = store_url(self.policies)
            opened = app.opened(self.policies, url, self._console, self._certificates, self._observe)
            async with opened as gateway:
                self._gateway = gateway
                yield gateway
        finally:
            self._gateway = None

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        logs.use_standard_logging()
        files.raise_limit()
        policies = self.policies
        try:
            async with AsyncExitStack() as stack:
                if policies.store.url == EMBEDDED:
                    await stack.enter_async_context(embedded_store.running(policies.data, policies.store.promise))
                await embedded.answering(store_url(policies), _STORE_ANSWERS_WITHIN)
                await layout.check(store_url(policies))
                await durability.check(policies.store)
                await stack.enter_async_context(self.opened())
                LOG.info("gateway.started", revision=policies.revision)
                yield
        except Exception as error:
            LOG.error("gateway.crashed", exception=error)
            raise
        LOG.info("gateway.stopped")

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if self._gateway is not None:
            await self._gateway(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1013})
        else:
            await answer_refusal(send, _NOT_OPEN, scope["headers"], new_line())
