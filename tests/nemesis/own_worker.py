"""One of our own workers that writes down what it does: `python -m tests.nemesis.own_worker FILE NAME PORT …`.

It is the demo's worker under the real membership. For each session that it runs it acts every so often: it emits an
event that carries the fence, and sends it until somebody answers for good. With `--sends` it does not: then it takes
ids, and writes down each message that goes out, in the order they do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessions.worker.joining import join
from sluice.config import Signature
from sluice.demo.worker import DemoWorker
from sluice.http.signatures import sign
from sluice.process.loops import Stop
from tests.e2e.deployment import WEBHOOKS
from tests.nemesis.history import History
from tests.nemesis.member import Member, main

_EVERY = 0.4  # seconds between two acts of a session
_TIMEOUT = 5.0
_AGAIN = 0.3
_TRIES_FOR = 60.0  # seconds
_WAITING = 1000  # events of a session
_ANSWERS_AFTER = (0.0, 0.05)  # seconds in which a kill leaves a send of which nobody knows the outcome


@dataclass(frozen=True, slots=True)
class Held:
    """A session for which its worker may act at this moment."""

    session: str
    fence: int


class Holder(Protocol):
    @property
    def name(self) -> str: ...

    def held(self) -> Sequence[Held]: ...


class NotingWorker(DemoWorker):
    """Notes when logins open and close."""

    def __init__(self, history: History, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._history = history

    async def start(self, session: str, fence: int) -> None:
        await super().start(session, fence)
        self._note("login", session, fence)

    async def _end(self, session: str, *, log_out: bool = False) -> None:
        login = self.login(session)
        await super()._end(session, log_out=log_out)
        self._note("logout", session, login.fence if login else 0)

    def held(self) -> list[Held]:
        return [Held(login.session, login.fence) for login in self.logins() if self.may_act(login.session)]

    def note_sent(self, session: str, text: str, identity: str) -> None:
        self._history.note("sent", session=session, text=text, id=identity, worker=self.name)

    def _note(self, kind: str, session: str, fence: int) -> None:
        self._history.note(kind, session=session, fence=fence, worker=self.name, pid=os.getpid())


class Actor:
    """Acts for every session that the worker runs."""

    def __init__(self, worker: Holder, history: History, gateways: list[str], signature: Signature) -> None:
        self._worker = worker
        self._history = history
        self._gateways = gateways
        self._signature = signature
        self._waiting: dict[str, asyncio.Queue[tuple[str, int]]] = {}
        self._acted = 0
        self._http = httpx2.AsyncClient(trust_env=False, timeout=_TIMEOUT)

    async def run(self, stop: Stop) -> None:
        async with asyncio.TaskGroup() as group:
            while not stop.requested:
                at = time.monotonic()
                for held in self._worker.held():
                    queue = self._waiting.get(held.session)
                    if queue is None:
                        queue = self._waiting[held.session] = asyncio.Queue(_WAITING)
                        group.create_task(self._send_all(held.session, queue, stop))
                    self._act(at, held, queue)
                await stop.sleep(_EVERY)
        await self._http.aclose()

    def _act(self, at: float, held: Held, queue: asyncio.Queue[tuple[str, int]]) -> None:
        """The moment is taken before the lease is looked at: a process that is frozen in between proves nothing."""
        if queue.full():
            return
        self._acted += 1
        event = f"{self._worker.name}-{os.getpid()}-{self._acted}"
        about = {"session": held.session, "fence": held.fence, "worker": self._worker.name, "pid": os.getpid()}
        self._history.note("act", at=at, event=event, **about)
        queue.put_nowait((event, held.fence))

    async def _send_all(self, session: str, queue: asyncio.Queue[tuple[str, int]], stop: Stop) -> None:
        """One after the other, so that none of them overtakes another."""
        while not stop.requested or not queue.empty():
            try:
                async with asyncio.timeout(_AGAIN):
                    event, fence = await queue.get()
            except TimeoutError:
                continue
            await self._send(session, event, fence, stop)

    async def _send(self, session: str, event: str, fence: int, stop: Stop) -> None:
        data = {"session_id": session, "workspace_id": 1, "message": {"id": event, "body": "hello"}}
        body = orjson.dumps(
            {"event": "message_received", "data": {**data, "fence": fence, "worker": self._worker.name}}
        )
        until = time.monotonic() + _TRIES_FOR
        while time.monotonic() < until:
            for gateway in self._gateways:
                status = await self._post(gateway, body, fence)
                if status is not None and status != 429 and status < 500:
                    self._history.note("accepted" if status < 300 else "refused", event=event, status=status)
                    return
            await stop.sleep(_AGAIN)
        self._history.note("given_up", event=event)

    async def _post(self, gateway: str, body: bytes, fence: int) -> int | None:
        headers = [
            (b"content-type", b"application/json"),
            (b"x-sluice-fence", b"%d" % fence),
            *sign(self._signature, body, time.time()),
        ]
        try:
            return (await self._http.post(gateway + WEBHOOKS.decode(), content=body, headers=headers)).status_code
        except httpx2.HTTPError:
            return None


def late(app: ASGIApp) -> ASGIApp:
    """The message has gone out, and its answer comes a moment later."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def later(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] == "/api/messages/send":
                await asyncio.sleep(random.uniform(*_ANSWERS_AFTER))
            await send(message)

        await app(scope, receive, later)

    return answer


async def _run(member: Member) -> None:
    signature, gateways, sends = member.signature, member.gateways, member.options.sends
    worker = NotingWorker(member.history, member.name, gateways[0], signature, member.url, traffic=False)
    membership = join(worker, gateways[0], signature, member.url, member.policies.sessions.most)
    if sends:
        worker.on_sent = worker.note_sent
    acting = () if sends else (Actor(worker, member.history, gateways, signature).run(member.stop),)
    await member.serve(late(worker.app()), membership, *acting)
    await worker.close()


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sends", action="store_true", help="takes ids, notes messages, and does not act")


if __name__ == "__main__":
    main(_run, __doc__, _add)
