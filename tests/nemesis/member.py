"""What our own workers have in common, whatever their sessions run in: where they are, and that their API is served for
as long as they are members."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import uvloop
from starlette.types import ASGIApp

from gateway.policies import Policies, load
from sessions.membership import Membership
from sluice.config import Signature
from sluice.http.server import serving
from sluice.observe import log as logs
from sluice.process.loops import Stop
from tests.nemesis.history import History

Run = Callable[["Member"], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a worker, from its arguments."""

    name: str
    url: str
    gateways: list[str]
    """Their base URLs; it is a member at the first."""
    policies: Policies
    signature: Signature
    history: History
    bound: socket
    stop: Stop
    options: argparse.Namespace

    async def serve(self, app: ASGIApp, membership: Membership, *beside: Coroutine[Any, Any, None]) -> None:
        """Until it is stopped and has left."""
        left = Stop()

        async def belong() -> None:
            try:
                await membership.run(self.stop)
            finally:
                left.request()

        async with asyncio.TaskGroup() as group:
            group.create_task(serving.serve(app, self.bound, left))
            for one in beside:
                group.create_task(one)
            group.create_task(belong())


def main(run: Run, description: str | None, add: Callable[[argparse.ArgumentParser], object]) -> None:
    """`add`: the arguments that only this kind of worker has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--policies", type=Path, required=True)
    parser.add_argument("--gateways", nargs="+", required=True, help="their base URLs; it is a member at the first")
    add(parser)
    options = parser.parse_args()
    logs.start(options.name)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(run, options))


async def _run(run: Run, options: argparse.Namespace) -> None:
    stop, history = Stop(), History(options.history)
    stop.on_signals()
    policies = load(options.policies)
    await run(
        Member(
            *(options.name, f"http://127.0.0.1:{options.port}", options.gateways),
            *(policies, policies.signatures["workers"], history),
            bound=serving.listening("127.0.0.1", options.port),
            stop=stop,
            options=options,
        )
    )
    history.close()
