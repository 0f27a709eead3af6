"""A Node worker as it is: `python -m tests.contract.worker --port 3001 --laravel-url http://127.0.0.1:8080 …`.

It knows nothing of Sluice. What it does is what the contract says, its faults included: it starts every account that
Laravel lists, reads its key from the field `api_key` alone, starts a second browser for a session that runs, and ends
with all its sessions when a request takes longer than the limit of its path. Under `/_test/` a test looks at it and
makes it do things.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from sluice.config import Secret, Signature
from sluice.http.server.serving import listening
from sluice.process.loops import Stop
from tests.contract.browsers import Browsers, LaunchFailed, Timing, now
from tests.contract.endpoints import MALFORMED, OPEN, handler_of, is_parsed
from tests.contract.web import Asked, Given, page, serve
from tests.contract.whatsapp import Watched
from tests.e2e.contract_sender import ContractSender

NOT_THERE = object()
LIMITS = (("/api/sessions", 60.0), ("/api/messages/send", 45.0), ("/health", 5.0), ("", 30.0))
"""Seconds by what a path contains, the first that fits."""


class Worker:
    """One process of it."""

    def __init__(self, options: argparse.Namespace, stop: Stop) -> None:
        self.key: str | None = options.api_key
        self.asked: list[dict[str, Any]] = []
        """Every request but those of the test: method, path, key and fence as they came, and the answer's status."""
        self.sent: list[dict[str, str]] = []
        """What went out to WhatsApp."""
        self.slow: dict[str, float] = {}
        """Seconds by which a path's answer is late."""
        self.says: dict[str, tuple[int, Any]] = {}
        """Answers given instead of the right ones, by path."""
        self.odd: list[Any] = []
        """Items that are listed beside the sessions."""
        self.restoring = True
        self.restored = 0
        self.began = time.monotonic()
        self.options = options
        self.stop = stop
        self.name = options.name or f"127.0.0.1:{options.port}"
        self.watched = Watched(self.name, os.getpid())
        timing = Timing().scaled(options.scale)
        self.browsers = Browsers(Path(options.profiles), timing, self.watched, self.emit)
        laravel = urlsplit(options.laravel_url)
        self.sender = ContractSender(
            laravel.port or 80,
            Signature("workers", "blazz", Secret(options.secret.encode()), 300.0),
            f"{laravel.path}/api/whatsapp/webhooks/webjs".encode(),
            options.instance or f"http://localhost:{options.port}",
            options.sender_scale,
        )
        self._number = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- requests

    async def answer(self, asked: Asked) -> Given:
        path = asked.path.lower().removesuffix("/") or "/"
        if path.startswith("/_test/"):
            return await _test(self, asked, path.removeprefix("/_test/"))
        seconds = next(limit for part, limit in LIMITS if part in path) * self.options.limits_scale
        timer = asyncio.get_running_loop().call_later(seconds, self._uncaught)
        try:
            given = await self._answer(asked, path)
        finally:
            timer.cancel()
        key, fence = asked.query.get("api_key", asked.fields.get("api_key")), asked.headers.get("x-sluice-fence")
        known = {"method": asked.method, "path": asked.path, "key": key, "fence": fence, "status": given.status}
        self.asked.append({**known, "headers": asked.headers, "at": time.monotonic()})
        return given

    async def _answer(self, asked: Asked, path: str) -> Given:
        if not is_parsed(asked):
            return Given(400, page(MALFORMED))
        await asyncio.sleep(self.slow.get(path, 0.0))
        if path in self.says:
            return Given(*self.says[path])
        found = handler_of(asked.method, path, asked.path)
        if found is None:
            about = {"path": asked.path, "method": asked.method, "timestamp": now()}
            return Given(404, {"error": "Endpoint not found", **about})
        handler, session = found
        if not OPEN.match(path) and not self._may(asked):
            return Given(401, {"error": "Invalid API key"})
        return await handler(self, asked, session)

    def _may(self, asked: Asked) -> bool:
        given = (asked.query if asked.method == "GET" else asked.fields).get("api_key", NOT_THERE)
        return given is NOT_THERE if self.key is None else given == self.key

    def _uncaught(self) -> None:
        """The timer calls a logger method that winston 3 lacks; nobody catches it."""
        os._exit(1)

    # --- webhooks

    def emit(self, event: str, data: dict[str, Any]) -> None:
        self._number += 1
        identity = (
            data.get("message", {}).get("id") if isinstance(data.get("message"), dict) else data.get("message_id")
        )
        self.watched.say("emit", number=self._number, event=event, session=data.get("session_id"), id=identity)
        self.start(self._send(self._number, json.dumps({"event": event, "data": data}).encode()))

    async def _send(self, number: int, body: bytes) -> None:
        self.watched.say("outcome", number=number, outcome=await self.sender.send(body))

    def start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- its life

    async def restore(self) -> None:
        """Asks once for all accounts, and starts them one after the other."""
        for account in await self._accounts():
            if self.stop.requested:
                return
            session, workspace = account["session_id"], account["workspace_id"]
            try:
                await self.browsers.create(session, workspace, account["id"])
                self.restored += 1
            except LaunchFailed:
                continue
        self.restoring = False

    async def _accounts(self) -> list[dict[str, Any]]:
        url = f"{self.options.laravel_url}/api/whatsapp/accounts/active"
        headers = {"X-API-Key": self.key or "", "Accept": "application/json"}
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=15.0) as client:
            for pause in (1.0, 2.0, None):
                try:
                    answer = await client.get(url, headers=headers)
                    return list(answer.json()["sessions"]) if answer.status_code == 200 else []
                except httpx2.ConnectError:
                    if pause is not None:
                        await asyncio.sleep(pause * self.options.scale)
                except (httpx2.HTTPError, ValueError, KeyError):
                    return []
        return []

    async def listen(self) -> None:
        async for line in self.watched.heard():
            if "out" in line:
                self.browsers.out(line["out"], line["reason"])
            else:
                self.browsers.scan(line["scan"], line["phone"])


# --- what a test asks


async def _test(worker: Worker, asked: Asked, what: str) -> Given:
    fields: dict[str, Any] = json.loads(asked.body) if asked.body else {}
    if what == "set":
        for name, value in fields.items():
            setattr(worker.browsers if name == "fails" else worker, name, value)
    elif what == "emit":
        worker.emit(fields["event"], fields["data"])
    elif what == "receive":
        worker.emit("message_received", _received(worker, fields))
    elif what == "forget_asked":
        worker.asked.clear()
    return Given(200, _state(worker))


def _received(worker: Worker, fields: dict[str, Any]) -> dict[str, Any]:
    """A message of somebody to this session."""
    session = fields["session_id"]
    browser = next((one for one in worker.browsers.open.values() if one.session == session), None)
    workspace = browser.workspace if browser else fields.get("workspace_id")
    identity = fields.get("id") or f"false_{os.urandom(8).hex()}"
    told = {"id": identity, "from": "4915111@c.us", "to": "4915222@c.us", "body": fields.get("body", "hello")}
    rest = {"timestamp": int(time.time()), "from_me": False, "type": "chat", "has_media": False, "chat_type": "private"}
    return {"workspace_id": workspace, "session_id": session, "message": {**told, **rest}}


def _state(worker: Worker) -> dict[str, Any]:
    sessions = {one.id: {"status": one.status, "phone": one.phone} for one in worker.browsers.sessions.values()}
    sender = {"attempts": dict(worker.sender.attempts), "answered": len(worker.sender.answered)}
    return {
        "sessions": sessions,
        "browsers": len(worker.browsers.open),
        "asked": worker.asked,
        "sent": worker.sent,
        "restoring": worker.restoring,
        "restored": worker.restored,
        "sender": {**sender, "lost": list(worker.sender.lost.values())},
    }


# --- the process


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.contract.worker")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--shared", action="store_true", help="PM2's cluster mode: others listen on the port, too")
    parser.add_argument("--laravel-url", required=True, help="without a final slash; may have a prefix")
    parser.add_argument("--profiles", required=True, help="SESSION_STORAGE_PATH")
    parser.add_argument("--secret", default="the-hmac-secret", help="HMAC_SECRET")
    parser.add_argument("--api-key", help="API_KEY; without it every request that has one is 401")
    parser.add_argument("--name", help="by which WhatsApp's record knows it")
    parser.add_argument("--instance", help="of X-Instance-Url; http://localhost:PORT without")
    parser.add_argument("--whatsapp", type=int, help="port of tests.contract.whatsapp")
    parser.add_argument("--scale", type=float, default=1.0, help="of all that browsers take: 0.01 makes 8 s 80 ms")
    parser.add_argument("--limits-scale", type=float, default=1.0, help="of the time limits of paths")
    parser.add_argument("--sender-scale", type=float, default=1.0, help="of the webhooks' timeout and pauses")
    parser.add_argument("--bulk-pause", type=float, default=1.0, help="after each recipient of bulk-send")
    parser.add_argument("--send-time", type=float, default=0.05, help="that one message takes")
    parser.add_argument("--receipts", action="store_true", help="each message is delivered and read at once")
    return parser.parse_args(arguments)


async def run(given: argparse.Namespace) -> None:
    stop, terminated = Stop(), Stop()
    worker = Worker(given, terminated)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, terminated.request)
    if given.whatsapp:
        await worker.watched.connect(given.whatsapp)
        worker.start(worker.listen())
    serving = asyncio.create_task(serve(worker.answer, listening("127.0.0.1", given.port, shared=given.shared), stop))
    worker.start(worker.restore())
    ending = asyncio.create_task(terminated.wait())
    await asyncio.wait([ending, serving], return_when=asyncio.FIRST_COMPLETED)
    await worker.browsers.close_one_by_one()
    stop.request()
    await serving


if __name__ == "__main__":
    asyncio.run(run(options()))
