"""The endpoints of a contract worker: section 2 of the contract, line by line."""

from __future__ import annotations

import json
import os
import re
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tests.contract.browsers import LaunchFailed, Session, now
from tests.contract.web import Asked, Given, form

if TYPE_CHECKING:
    from tests.contract.worker import Worker

MALFORMED = "SyntaxError: Unexpected token in JSON at position 0"
OPEN = re.compile(r"/(info|health(/.*)?|cleanup/.*|remoteauth/.*|api/internal/.*|_test/.*)?$", re.IGNORECASE)
"""Paths that need no key."""
Handler = Callable[["Worker", Asked, str], Awaitable[Given]]


def is_parsed(asked: Asked) -> bool:
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


def handler_of(method: str, path: str, raw: str) -> tuple[Handler, str] | None:
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
    await sleep(worker.options.send_time)
    identity = _message(worker, found, str(phone), message)
    return Given(200, {"success": True, "message_id": identity, "timestamp": int(time.time())})


def _message(worker: Worker, session: Session, phone: str, message: str) -> str:
    """It has left; what its id is."""
    chat = f"{phone.lstrip('+').removesuffix('@c.us')}@c.us"
    identity = f"true_{chat}_{os.urandom(10).hex().upper()}"
    worker.sent.append({"session_id": session.id, "to": phone, "message": message, "message_id": identity})
    worker.watched.say("sent", session=session.id, to=phone, message=message, id=identity)
    session.last_activity = now()
    told = {"id": identity, "from": chat, "to": chat, "body": message, "timestamp": int(time.time()), "from_me": True}
    about = {"workspace_id": session.workspace, "session_id": session.id, "source": "api"}
    worker.emit("message_sent", {**about, "message": {**told, "type": "chat", "status": "sent"}})
    if worker.options.receipts:
        del about["source"]
        told = {"message_id": identity, "status": "delivered", "ack_level": 3, "timestamp": int(time.time())}
        worker.emit("message_status_updated", {**about, **told})
        about |= {"message_id": identity, "recipient": chat}
        worker.emit("message_read", {**about, "timestamp": int(time.time())})
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
            await sleep(worker.options.bulk_pause)
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
