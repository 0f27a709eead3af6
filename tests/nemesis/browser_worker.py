"""A worker with browsers that writes down what it does: `python -m tests.nemesis.browser_worker FILE NAME PORT …`.

It is the real one, with its watchdog, on a folder of its own; beside it acts what acts for the sessions of
`own_worker.py`, whenever its membership says that it may.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.policies import load
from sessions.membership import Membership
from sessions.worker.browser.running import At, browser_worker
from sluice.http.server import serving
from sluice.observe import log as logs
from sluice.process.addresses import store_url
from sluice.process.loops import Stop
from tests.nemesis.history import History
from tests.nemesis.own_worker import Actor, Held

CAPACITY = 2
"""Sessions, each of which takes a core for seconds whenever it moves."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What its membership says that it runs."""

    name: str
    membership: Membership

    def held(self) -> Sequence[Held]:
        fences = {session: self.membership.fence_of(session) for session in self.membership._sessions.running}
        return [Held(session, fence) for session, fence in fences.items() if fence is not None]


def says_who(app: ASGIApp, name: str) -> ASGIApp:
    """As the demo's workers do on every answer."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-demo-worker", name.encode())]}
            await send(message)

        await app(scope, receive, named)

    return answer


async def _run(options: argparse.Namespace) -> None:
    stop, left, history = Stop(), Stop(), History(options.history)
    stop.on_signals()
    policies = load(options.policies)
    signature, url = policies.signatures["workers"], f"http://127.0.0.1:{options.port}"
    at = At(options.name, options.gateways[0], url, signature, signature, store_url(policies), options.data)
    bound = serving.listening("127.0.0.1", options.port)
    async with browser_worker(at, replace(policies.sessions, per_worker=CAPACITY)) as (app, membership):

        async def belong() -> None:
            try:
                await membership.run(stop)
            finally:
                left.request()

        acting = Actor(Holding(options.name, membership), history, options.gateways, signature)
        async with asyncio.TaskGroup() as group:
            group.create_task(serving.serve(says_who(app, options.name), bound, left))
            group.create_task(acting.run(stop))
            group.create_task(belong())
    history.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--policies", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="its disk")
    parser.add_argument("--gateways", nargs="+", required=True, help="their base URLs; it is a member at the first")
    options = parser.parse_args()
    logs.start(options.name)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(options))


if __name__ == "__main__":
    main()
