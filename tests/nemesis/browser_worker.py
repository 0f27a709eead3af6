"""A worker with browsers that writes down what it does: `python -m tests.nemesis.browser_worker FILE NAME PORT …`.

It is the real one, with its watchdog, on a folder of its own; beside it acts what acts for the sessions of
`own_worker.py`, whenever its membership says that it may.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessions.membership import Membership
from sessions.worker.browser.running import At, browser_worker
from sluice.process.addresses import store_url
from tests.nemesis.member import Member, main
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


async def _run(member: Member) -> None:
    policies, signature = member.policies, member.signature
    gateway, data = member.gateways[0], member.options.data
    at = At(member.name, gateway, member.url, signature, signature, store_url(policies), data)
    async with browser_worker(at, replace(policies.sessions, per_worker=CAPACITY)) as (app, membership):
        acting = Actor(Holding(member.name, membership), member.history, member.gateways, signature)
        await member.serve(says_who(app, member.name), membership, acting.run(member.stop))


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="its disk")


if __name__ == "__main__":
    main(_run, __doc__, _add)
