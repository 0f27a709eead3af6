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
import re
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from sluice.config import Secret, Signature
from sluice.http.server.serving import listening
from sluice.process.loops import Stop
from tests.contract.browsers import Browsers, LaunchFailed, Session, Timing, now
from tests.contract.web import Asked, Given, form, page, serve
from tests.contract.whatsapp import Watched
from tests.e2e.contract_sender import ContractSender

NOT_THERE = object()
MALFORMED = "SyntaxError: Unexpected token in JSON at position 0"
OPEN = re.compile(r"/(info|health(/.*)?|cleanup/.*|remoteauth/.*|api/internal/.*|_test/.*)?$", re.IGNORECASE)
"""Paths that need no key."""
LIMITS = (("/api/sessions", 60.0), ("/api/messages/send", 45.0), ("/health", 5.0), ("", 30.0))
"""Seconds by what a path contains, the first that fits."""
Handler = Callable[["Worker", Asked, str], Awaitable[Given]]


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
        if not _parsed(asked):
            return Given(400, page(MALFORMED))
        await asyncio.sleep(self.slow.get(path, 0.0))
        if path in self.says:
            return Given(*self.says[path])
        found = _route(asked.method, path, asked.path)
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


def _parsed(asked: Asked) -> bool:
    """Reads the body into `fields`, as Express does before anything else. False: it is no JSON."""
    kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        asked.fields = form(asked.body)
    elif kind == "application/json" and asked.body:
        try:
            value = json.loads(asked.body)
        except ValueError:
            return False
        if not isinstance(value, dict | list):
            return False
        asked.fields = value if isinstance(value, dict) else {}
    return True


def _route(method: str, path: str, raw: str) -> tuple[Handler, str] | None:
    for verb, pattern, handler in ROUTES:
        found = re.fullmatch(pattern, path)
        if found and verb == method:
            start, end = found.span(1) if found.groups() else (0, 0)
            return handler, raw[start:end]
    return None


# --- sessions


async def _create(worker: Worker, asked: Asked, _: str) -> Given:
    fields = asked.fields
    session = str(fields.get("session_id", "undefined"))
    return await _begin(worker, session, fields.get("workspace_id"), fields.get("account_id"), {})


async def _begin(worker: Worker, session: str, workspace: Any, account: Any, more: dict[str, Any]) -> Given:
    try:
        await worker.browsers.create(session, workspace, account)
    except LaunchFailed as failed:
        return Given(500, {"error": str(failed)})
    return Given(200, {"success": True, "session_id": session, "status": "qr_scanning", **more})


async def _list(worker: Worker, _: Asked, __: str) -> Given:
    rows = [_row(one) for one in worker.browsers.sessions.values()]
    return Given(200, {"success": True, "sessions": [*rows, *worker.odd], "total": len(rows)})


def _row(session: Session) -> dict[str, Any]:
    row = {"session_id": session.id, "workspace_id": session.workspace, "status": session.status}
    return _defined({**row, "phone_number": session.phone, "connected_at": session.connected_at})


def _defined(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON.stringify leaves out what is undefined."""
    return {name: value for name, value in fields.items() if value is not None}


def _unknown() -> Given:
    return Given(404, {"error": "Session not found"})


async def _status(worker: Worker, _: Asked, session: str) -> Given:
    found = worker.browsers.sessions.get(session)
    if found is None:
        return _unknown()
    return Given(200, _defined({**_row(found), "last_activity": found.last_activity}))


async def _metadata(worker: Worker, _: Asked, session: str) -> Given:
    found = worker.browsers.sessions.get(session)
    if found is None:
        return _unknown()
    return Given(200, {"success": True, "session_id": session, "metadata": _metadata_of(found)})


def _metadata_of(found: Session) -> dict[str, Any]:
    of_us = {"sessionId": found.id, "workspaceId": found.workspace, "accountId": found.account, "status": found.status}
    times = {"connectedAt": found.connected_at, "lastActivity": found.last_activity}
    return _defined({**of_us, "phoneNumber": found.phone, "qrCode": found.qr_code, **times, **found.metadata})


async def _put_metadata(worker: Worker, asked: Asked, session: str) -> Given:
    updates = asked.fields.get("updates")
    if not isinstance(updates, dict):
        return Given(400, {"error": "updates object is required"})
    found = worker.browsers.sessions.get(session)
    if found is None:
        return Given(200, {"success": True, "session_id": session, "metadata": None})
    found.metadata |= updates
    found.status = updates.get("status", found.status)
    return Given(200, {"success": True, "session_id": session, "metadata": _metadata_of(found)})


async def _delete(worker: Worker, _: Asked, session: str) -> Given:
    if await worker.browsers.delete(session):
        return Given(200, {"success": True, "message": "Session disconnected successfully"})
    message = "Session already disconnected"
    return Given(200, {"success": True, "message": message, "alreadyDisconnected": True})


async def _reconnect(worker: Worker, asked: Asked, session: str) -> Given:
    await worker.browsers.delete(session)
    return await _begin(worker, session, asked.fields.get("workspace_id"), asked.fields.get("account_id"), {})


async def _regenerate_qr(worker: Worker, asked: Asked, session: str) -> Given:
    await worker.browsers.delete(session)
    fields = asked.fields
    return await _begin(worker, session, fields.get("workspace_id"), fields.get("account_id"), {"expires_in": 300})


async def _restore(_: Worker, __: Asked, ___: str) -> Given:
    return Given(500, {"error": "workspaceId is not defined"})


async def _last_activity(worker: Worker, _: Asked, session: str) -> Given:
    found = worker.browsers.sessions.get(session)
    data = {"session_id": session, "last_activity": found.last_activity if found else None}
    return Given(200, {"success": True, "data": {**data, "status": found.status if found else None}})


# --- messages


async def _send(worker: Worker, asked: Asked, _: str) -> Given:
    fields = asked.fields
    if not all(fields.get(name) for name in ("session_id", "recipient_phone", "message")):
        return Given(400, {"error": "session_id, recipient_phone and message are required"})
    kind = fields.get("type", "text")
    return await _one(worker, fields["session_id"], fields["recipient_phone"], fields["message"], kind)


async def _send_media(worker: Worker, asked: Asked, _: str) -> Given:
    fields = asked.fields
    if not all(fields.get(name) for name in ("session_id", "recipient_phone", "media_url")):
        return Given(400, {"error": "session_id, recipient_phone and media_url are required"})
    return await _one(worker, fields["session_id"], fields["recipient_phone"], fields["media_url"], "media")


async def _one(worker: Worker, session: str, phone: Any, message: str, kind: str) -> Given:
    if not re.fullmatch(r"\+?[0-9]{8,15}(@c\.us)?", str(phone)):
        return Given(400, {"error": "Invalid phone number"})
    found = worker.browsers.sessions.get(session)
    if found is None:
        return _unknown()
    if found.status != "connected":
        return Given(400, {"error": "Session is not connected"})
    if kind not in ("text", "media"):
        return Given(200, {"success": True})
    await asyncio.sleep(worker.options.send_time)
    identity = _message(worker, found, str(phone), message)
    return Given(200, {"success": True, "message_id": identity, "timestamp": int(time.time())})


def _message(worker: Worker, session: Session, phone: str, message: str) -> str:
    """It has left; what its id is."""
    chat = f"{phone.lstrip('+').removesuffix('@c.us')}@c.us"
    identity = f"true_{chat}_{os.urandom(10).hex().upper()}"
    worker.sent.append({"session_id": session.id, "to": phone, "message": message, "message_id": identity})
    worker.watched.say("sent", session=session.id, to=phone, message=message)
    session.last_activity = now()
    told = {"id": identity, "from": chat, "to": chat, "body": message, "timestamp": int(time.time()), "from_me": True}
    about = {"workspace_id": session.workspace, "session_id": session.id, "source": "api"}
    worker.emit("message_sent", {**about, "message": {**told, "type": "chat", "status": "sent"}})
    return identity


async def _bulk(worker: Worker, asked: Asked, _: str) -> Given:
    """One after the other, a second after each that went out."""
    fields = asked.fields
    recipients, message = fields.get("recipients"), fields.get("message")
    if not fields.get("session_id") or not isinstance(recipients, list) or not message:
        return Given(400, {"error": "session_id, recipients array and message are required"})
    results: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for recipient in recipients:
        phone = recipient.get("phone") if isinstance(recipient, dict) else recipient
        given = await _one(worker, fields["session_id"], phone, message, fields.get("type", "text"))
        if given.status == 200:
            results.append({"recipient": recipient, **given.value})
            await asyncio.sleep(worker.options.bulk_pause)
        else:
            errors.append({"recipient": recipient, "error": given.value["error"]})
    numbers = {"total": len(recipients), "successful": len(results), "failed": len(errors)}
    return Given(200, {"success": True, **numbers, "results": results, "errors": errors})


async def _message_status(worker: Worker, asked: Asked, session: str) -> Given:
    found = worker.browsers.sessions.get(session)
    identity = asked.query.get("message_id")
    if not identity:
        return Given(400, {"error": "message_id is required"})
    if found is None:
        return _unknown()
    about = {"success": True, "session_id": session, "message_id": identity, "session_status": found.status}
    return Given(200, {**about, "note": "Message status tracking is not implemented", "timestamp": now()})


async def _validate(worker: Worker, _: Asked, session: str) -> Given:
    found = worker.browsers.sessions.get(session)
    if found is None:
        return _unknown()
    well = found.status == "connected"
    state = {"success": True, "session_id": session, "status": found.status, "can_send": well, "is_healthy": well}
    rest = _defined({"last_activity": found.last_activity, "phone_number": found.phone})
    return Given(200, {**state, **rest, "recommendations": [] if well else ["Reconnect the session"]})


# --- itself


async def _health(worker: Worker, _: Asked, __: str) -> Given:
    return Given(200, {"status": "healthy", **_figures(worker)})


def _figures(worker: Worker) -> dict[str, Any]:
    sessions = list(worker.browsers.sessions.values())
    numbers = {name: sum(one.status == name for one in sessions) for name in ("connected", "disconnected")}
    uptime = time.monotonic() - worker.began
    memory = {"rss": 92 << 20, "heapTotal": 48 << 20, "heapUsed": 31 << 20, "external": 3 << 20}
    return {"uptime": uptime, "sessions": {"total": len(sessions), **numbers}, "memory": memory, "timestamp": now()}


async def _ready(worker: Worker, _: Asked, __: str) -> Given:
    checks = {"api_key": worker.key is not None, "laravel_url": bool(worker.options.laravel_url)}
    ready = all(checks.values())
    return Given(200 if ready else 503, {"ready": ready, "timestamp": now(), "checks": checks})


async def _live(_: Worker, __: Asked, ___: str) -> Given:
    return Given(503, {"alive": False, "error": "accountStatusService is not defined", "timestamp": now()})


async def _info(worker: Worker, _: Asked, __: str) -> Given:
    return Given(200, {"service": "WhatsApp WebJS Service", "version": "1.0.0", **_figures(worker)})


async def _cleanup(worker: Worker, _: Asked, __: str) -> Given:
    if worker.restoring:
        return Given(503, {"success": False, "error": "Cleanup service not initialized", "timestamp": now()})
    return Given(200, {"success": True, "cleaned": 0, "timestamp": now()})


async def _remoteauth(_: Worker, __: Asked, ___: str) -> Given:
    return Given(200, {"enabled": False, "timestamp": now()})


S = r"/api/sessions/([-_a-z0-9]+)"
M = r"/api/messages"
ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/api/sessions", _create),
    ("GET", "/api/sessions", _list),
    ("GET", S + "/status", _status),
    ("GET", S + "/metadata", _metadata),
    ("PUT", S + "/metadata", _put_metadata),
    ("DELETE", S, _delete),
    ("POST", S + "/reconnect", _reconnect),
    ("POST", S + "/regenerate-qr", _regenerate_qr),
    ("POST", S + "/restore", _restore),
    ("POST", M + "/send", _send),
    ("POST", M + "/send-media", _send_media),
    ("POST", M + "/bulk-send", _bulk),
    ("GET", M + r"/([^/]+)/status", _message_status),
    ("GET", M + r"/([^/]+)/validate", _validate),
    ("GET", r"/api/internal/sessions/([^/]+)/last-activity", _last_activity),
    ("GET", "/health", _health),
    ("GET", "/health/ready", _ready),
    ("GET", "/health/live", _live),
    ("GET", "/health/detailed", _info),
    ("GET", "/info", _info),
    ("GET", "/", _info),
    ("POST", "/cleanup/run", _cleanup),
    ("GET", "/cleanup/stats", _cleanup),
    ("POST", r"/cleanup/([^/]+)", _cleanup),
    ("GET", "/remoteauth/(?:health|redis|sessions|migration)", _remoteauth),
]


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
    found = worker.browsers.sessions.get(session)
    workspace = found.workspace if found else fields.get("workspace_id")
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
