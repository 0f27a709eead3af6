"""A worker of ours whose sessions are not well until they are restarted: `python -m tests.e2e.unwell_worker …`.

By its name a session is `silent` (a send is answered and brings no event), `flapping` (each other beat has lost its
connection) or `stuck` (at its QR code) under the first fence that it runs under, and well under each later one.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from itertools import count
from pathlib import Path

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.policies import load
from sessions.membership import Membership, State
from sluice.http.server import serving
from sluice.http.signatures import sign
from sluice.observe import log as logs
from sluice.process.loops import Stop
from tests.e2e.deployment import WEBHOOKS


class UnwellWorker:
    def __init__(self, gateway: str, policies: Path, name: str, url: str) -> None:
        signature = load(policies).signatures["workers"]
        self._gateway, self._signature = gateway, signature
        self._http = httpx2.AsyncClient(base_url=gateway, trust_env=False, timeout=10.0)
        self._started = Counter[str]()
        self._reports = count()
        about = {"worker": name, "url": url, "capacity": 10}
        self.membership = Membership(
            *(gateway, signature), **about, start=self.start, stop=self.stop, state=self.state, start_at_once=5
        )

    async def start(self, session: str, fence: int) -> None:
        self._started[session] += 1
        if self.state(session)[0] == "connected":
            await self._say(session, fence, "session_ready", {"phone_number": phone_of(session), "status": "connected"})

    async def stop(self, session: str) -> None:
        pass

    def state(self, session: str) -> State:
        if not self._is_well(session):
            if session.startswith("stuck"):
                return "qr_scanning", None, None
            if session.startswith("flapping") and next(self._reports) % 2:
                return "disconnected", None, "the connection was lost"
        return "connected", phone_of(session), None

    async def send(self, request: Request) -> Response:
        said = orjson.loads(await request.body())
        session, fence = said["session_id"], self.membership.fence_of(said["session_id"])
        if fence is None or request.headers["x-sluice-fence"] != str(fence):
            return JSONResponse({"error": "not the owner"}, status_code=421)
        if self._is_well(session) or not session.startswith("silent"):
            await self._say(session, fence, "message_sent", {"message": {"id": "m", "body": said["message"]}})
        return JSONResponse({"success": True, "message_id": "m", "timestamp": int(time.time())})

    def _is_well(self, session: str) -> bool:
        return self._started[session] > 1

    async def _say(self, session: str, fence: int, event: str, data: dict[str, object]) -> None:
        body = orjson.dumps({"event": event, "data": {"session_id": session, "workspace_id": 1, **data}})
        headers = [
            (b"content-type", b"application/json"),
            (b"x-sluice-fence", b"%d" % fence),
            *sign(self._signature, body, time.time()),
        ]
        answer = await self._http.post(WEBHOOKS.decode(), content=body, headers=headers)
        assert answer.status_code == 202, answer.text


def phone_of(session: str) -> str:
    """One of its own."""
    return "49" + "".join(str(ord(letter)) for letter in session)


async def _run(given: argparse.Namespace) -> None:
    stop = Stop()
    stop.on_signals()
    bound = serving.listening("127.0.0.1", 0)
    worker = UnwellWorker(given.gateway, given.policies, given.name, f"http://127.0.0.1:{bound.getsockname()[1]}")
    app = Starlette(routes=[Route("/api/messages/send", worker.send, methods=["POST"])])
    async with asyncio.TaskGroup() as group:
        group.create_task(serving.serve(app, bound, stop))
        group.create_task(worker.membership.run(stop))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--policies", type=Path, required=True)
    parser.add_argument("--gateway", required=True)
    given = parser.parse_args()
    logs.start(given.name)
    asyncio.run(_run(given))


if __name__ == "__main__":
    main()
