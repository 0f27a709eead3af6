"""A worker of ours whose phones are scanned by files: `python -m tests.e2e.one_phone.worker --name w1 …`.

A login `SESSION.json` in the folder `--profiles` names the phone and the moment (of the machine's monotonic clock) from
which on the session is connected with it. It stays there when the worker is killed, as in a vault. Each session that is
connected says so by a session_ready, until a gateway has taken that.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from pathlib import Path

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.policies import load
from sessions.membership import Membership, State
from sluice.http.server import serving
from sluice.http.signatures import sign
from sluice.observe import log as logs
from sluice.process.loops import Stop
from tests.e2e.deployment import WEBHOOKS

_LOOK_EVERY = 0.02
_AGAIN = 0.2


class PhoneWorker:
    """`gateways`: where it says that a session is ready, at the first one that answers."""

    def __init__(self, profiles: Path, gateways: list[str], policies: Path) -> None:
        self._profiles = profiles
        self._gateways = gateways
        self._signature = load(policies).signatures["workers"]
        self._http = httpx2.AsyncClient(trust_env=False, timeout=3.0)
        self._lives: dict[str, asyncio.Task[None]] = {}
        self.states: dict[str, State] = {}
        self.membership: Membership | None = None

    async def start(self, session: str, fence: int) -> None:
        await self.stop(session)
        self.states[session] = "qr_scanning", None, None
        self._lives[session] = asyncio.create_task(self._live(session, fence))

    async def stop(self, session: str) -> None:
        self.states.pop(session, None)
        life = self._lives.pop(session, None)
        if life is not None:
            life.cancel()

    def state(self, session: str) -> State:
        return self.states.get(session, ("starting", None, None))

    async def _live(self, session: str, fence: int) -> None:
        file = self._profiles / f"{session}.json"
        while not file.exists():
            await asyncio.sleep(_LOOK_EVERY)
        login = orjson.loads(file.read_bytes())
        await asyncio.sleep(max(0.0, login["at"] - time.monotonic()))
        self.states[session] = "connected", login["phone"], None
        await asyncio.sleep(random.choice((0.0, 0.0, random.uniform(0.0, 1.5))))  # a beat may come first
        await self._say_ready(session, fence, login)

    async def _say_ready(self, session: str, fence: int, login: dict[str, object]) -> None:
        data = {"session_id": session, "workspace_id": login["workspace"], "phone_number": login["phone"]}
        told = {"event": "session_ready", "data": {**data, "status": "connected", "fence": fence}}
        body = orjson.dumps(told)
        while self.membership is None or self.membership.fence_of(session) == fence:
            for gateway in self._gateways:
                headers = [
                    (b"content-type", b"application/json"),
                    (b"x-sluice-fence", b"%d" % fence),
                    *sign(self._signature, body, time.time()),
                ]
                try:
                    answer = await self._http.post(gateway + WEBHOOKS.decode(), content=body, headers=headers)
                except httpx2.HTTPError:
                    continue
                if answer.status_code < 500 and answer.status_code != 429:
                    return
            await asyncio.sleep(_AGAIN)

    def app(self) -> Starlette:
        async def runs(_: Request) -> JSONResponse:
            return JSONResponse({session: state[0] for session, state in self.states.items()})

        return Starlette(routes=[Route("/runs", runs)])


async def _run(given: argparse.Namespace) -> None:
    stop = Stop()
    stop.on_signals()
    worker = PhoneWorker(given.profiles, given.gateways, given.policies)
    signature = load(given.policies).signatures["workers"]
    url = f"http://127.0.0.1:{given.port}"
    membership = worker.membership = Membership(
        given.gateways[0],
        signature,
        worker=given.name,
        url=url,
        capacity=50,
        start=worker.start,
        stop=worker.stop,
        state=worker.state,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(serving.serve(worker.app(), serving.listening("127.0.0.1", given.port), stop))
        group.create_task(membership.run(stop))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--profiles", type=Path, required=True)
    parser.add_argument("--policies", type=Path, required=True)
    parser.add_argument("--gateways", nargs="+", required=True, help="their base URLs; it is a member at the first")
    given = parser.parse_args()
    logs.start(given.name)
    asyncio.run(_run(given))


if __name__ == "__main__":
    main()
