"""Laravel as it is: `python -m tests.contract.laravel --port 8000 --instances http://127.0.0.1:8080 …`.

It receives the webhooks of the contract with all that it makes of them, and calls workers when a test says so, under
`/_test/`. Its tables are in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from sluice.http.server.serving import listening
from sluice.process.loops import Stop
from tests.contract.accounts import Accounts, Row
from tests.contract.calls import Calls
from tests.contract.web import Asked, Given, page, serve

WEBHOOKS = "/api/whatsapp/webhooks/webjs"
TOLERANCE = 300
QUEUED = {
    *("qr_code_generated", "session_authenticated", "session_disconnected", "session_error"),
    *("message_status_updated", "message_delivered", "message_read"),
}
INLINE = {"session_ready", "message_received", "message_sent", "typing_indicator", "chat_state_updated"}


class HmacLimiter:
    """Each hit renews the 60 s of its address: it counts since the last quiet minute. Not atomic, as PHP is many."""

    def __init__(self, most: int, ttl: float) -> None:
        self._most = most
        self._ttl = ttl
        self._hits: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))

    def allows(self, address: str) -> bool:
        now = time.monotonic()
        hits, ends = self._hits[address]
        hits = hits if now < ends else 0
        if hits >= self._most:
            return False
        self._hits[address] = (hits + 1, now + self._ttl)
        return True


class Laravel:
    def __init__(self, given: argparse.Namespace) -> None:
        self.accounts = Accounts()
        self.calls = Calls(self.accounts, given.instances, given.api_key, given.calls_scale)
        self.webhooks: list[dict[str, Any]] = []
        """Every webhook: event, session, message id, instance, answer, what became of it, and how it came."""
        self.others: list[dict[str, Any]] = []
        """Every other call of a worker."""
        self.down = False
        """Everything but `/_test/` is answered 503."""
        self.slow = 0.0
        """Seconds by which the answer to a webhook is late."""
        self.slow_active = 0.0
        """Seconds by which the list of accounts is late."""
        self.secret: str = given.secret
        self._limiter = HmacLimiter(given.limiter, given.limiter_ttl)

    async def answer(self, asked: Asked) -> Given:
        if asked.path.startswith("/_test/"):
            return await _test(self, asked, asked.path.removeprefix("/_test/"))
        if self.down:
            return Given(503, page("Service Unavailable"))
        if asked.path == WEBHOOKS and asked.method == "POST":
            return await self._webhook(asked)
        await asyncio.sleep(self.slow_active if asked.path.endswith("/active") else 0.0)
        given = _other(self, asked)
        about = {"method": asked.method, "path": asked.path, "status": given.status, "at": time.monotonic()}
        self.others.append({**about, "headers": asked.headers})
        return given

    # --- webhooks

    async def _webhook(self, asked: Asked) -> Given:
        await asyncio.sleep(self.slow)
        refused = self._refused(asked)
        if refused is not None:
            self._note(asked, {}, refused, "refused")
            return refused
        try:
            told = json.loads(asked.body)
            event, data = told["event"], told["data"]
        except (ValueError, KeyError, TypeError):
            return Given(500, page("ErrorException: Undefined array key"))
        try:
            became = await self._handle(event, data, asked.headers.get("x-instance-url", ""))
        except (sqlite3.Error, KeyError, TypeError, AttributeError) as error:
            became = f"failed: {error}"  # behind a 200
        status = "processed_inline" if event in INLINE else "queued" if event in QUEUED else "received"
        given = Given(200, {"status": status})
        self._note(asked, told, given, became)
        return given

    def _refused(self, asked: Asked) -> Given | None:
        signature, stamp = asked.headers.get("x-hmac-signature"), asked.headers.get("x-timestamp")
        if not self.secret:
            return Given(500, page("RuntimeException: HMAC secret not configured"))
        if not signature or not stamp:
            return Given(401, {"message": "Missing HMAC headers"})
        if not stamp.isdigit() or abs(time.time() - int(stamp)) > TOLERANCE:
            return Given(401, {"message": "Request timestamp expired"})
        proof = hmac.new(self.secret.encode(), stamp.encode() + asked.body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(proof, signature):
            return Given(401, {"message": "Invalid HMAC signature"})
        address = asked.headers.get("x-forwarded-for", asked.client).partition(",")[0].strip()
        if not self._limiter.allows(address):
            return Given(429, {"message": "Too many requests"})
        return None

    def _note(self, asked: Asked, told: dict[str, Any], given: Given, became: str) -> None:
        data = told.get("data") or {}
        message = data.get("message") if isinstance(data.get("message"), dict) else {}
        about = {"event": told.get("event"), "session_id": data.get("session_id")}
        identity = (message or {}).get("id") or data.get("message_id")
        rest = {"instance": asked.headers.get("x-instance-url"), "status": given.status, "became": became}
        body = asked.body.decode(errors="replace")
        self.webhooks.append(
            {**about, "message_id": identity, **rest, "at": time.monotonic(), "headers": asked.headers, "body": body}
        )

    async def _handle(self, event: str, data: dict[str, Any], instance: str) -> str:
        """What became of it."""
        session, accounts = str(data.get("session_id")), self.accounts
        if event == "session_ready":
            return self._ready(session, data, instance)
        if event == "message_received":
            why = await self.calls.why_not_received(data["workspace_id"])
            if why:
                return f"lost: {why}"
            accounts.save(session, event, data["message"]["id"], data["message"].get("body") or "")
        elif event == "message_sent":
            accounts.save(session, event, data["message"]["id"], data["message"].get("body") or "", once=True)
        elif event in ("message_status_updated", "message_delivered", "message_read"):
            accounts.save(session, event, data["message_id"], str(data.get("status", "")))
        elif event == "qr_code_generated":
            accounts.change(session, event, status="qr_scanning", qr_code=data["qr_code"])
        elif event == "session_authenticated":
            accounts.change(session, event, status="authenticated")
        elif event == "session_disconnected":
            accounts.change(session, f"{event}: {data.get('reason')}", status="disconnected")
        elif event == "session_error":
            accounts.change(session, event, status="error")  # which the enum lacks: the job fails
        return "handled"

    def _ready(self, session: str, data: dict[str, Any], instance: str) -> str:
        """The other rows of the phone go, even connected ones; then the address is stored."""
        phone = data["phone_number"]
        self.accounts.take_phone(session, data["workspace_id"], phone)
        self.accounts.change(session, "session_ready", status="connected", phone_number=phone, qr_code=None)
        if instance:
            self.accounts.change(session, "session_ready", assigned_instance_url=instance)
        return "handled"


# --- the other calls of a worker


def _other(laravel: Laravel, asked: Asked) -> Given:
    path, method = asked.path.removeprefix("/api/whatsapp/"), asked.method
    if (method, path) == ("GET", "accounts/active"):
        return _active(laravel)
    if (method, path) == ("GET", "accounts-for-cleanup"):
        return Given(200, {"success": True, "accounts": [], "count": 0})
    if (method, path) in (("GET", "cleanup-stats"), ("POST", "cleanup-logs")):
        return Given(200, {"success": True})
    if (method, path) == ("POST", "chats/sync"):
        return Given(400, {"error": "session_id is required"})
    if method == "PATCH" and path.startswith("accounts/by-session/"):
        return Given(405, {"message": "The PATCH method is not supported for this route."})
    if asked.path == "/up":
        return Given(200, page("Application up"))
    return Given(404, {"message": "The route could not be found."})


def _active(laravel: Laravel) -> Given:
    """All accounts of all workspaces, whoever asks: it names no worker."""
    names = ("id", "session_id", "workspace_id", "phone_number", "status", "provider_type")
    rows = [{name: row[name] for name in names} for row in laravel.accounts.live() if row["status"] != "failed"]
    return Given(200, {"success": True, "sessions": rows, "count": len(rows)})


# --- what a test asks


async def _test(laravel: Laravel, asked: Asked, what: str) -> Given:
    fields: dict[str, Any] = json.loads(asked.body) if asked.body else {}
    if what == "add":
        return Given(200, [laravel.accounts.add(**row) for row in fields["rows"]])
    if what == "set":
        for name, value in fields.items():
            setattr(laravel.calls if name in ("instances", "key", "scale") else laravel, name, value)
        return Given(200, {})
    if what == "sync":
        await laravel.calls.sync_instance_urls()
        return Given(200, laravel.calls.alerts)
    if what.startswith("do/"):
        return await _do(laravel, what.removeprefix("do/"), fields)
    return Given(200, SHOWN[what](laravel))


async def _do(laravel: Laravel, verb: str, fields: dict[str, Any]) -> Given:
    row = laravel.accounts.of(fields.pop("session_id"))
    if row is None:
        return Given(404, {"error": "no such account"})
    do: Callable[..., Awaitable[Any]] = getattr(laravel.calls, verb)
    return Given(200, asdict(await do(row, **fields)))


SHOWN: dict[str, Callable[[Laravel], list[Row] | int]] = {
    "accounts": lambda laravel: laravel.accounts.all(),
    "messages": lambda laravel: laravel.accounts.messages(),
    "marks": lambda laravel: laravel.accounts.marks(),
    "webhooks": lambda laravel: laravel.webhooks,
    "others": lambda laravel: laravel.others,
    "calls": lambda laravel: laravel.calls.made,
    "count": lambda laravel: len(laravel.webhooks),
}


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.contract.laravel")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--instances", nargs="+", required=True, help="WHATSAPP_INSTANCE_1..4")
    parser.add_argument("--secret", default="the-hmac-secret", help="WHATSAPP_HMAC_SECRET")
    parser.add_argument("--api-key", help="what it sends as api_key")
    parser.add_argument("--limiter", type=int, default=1000, help="webhooks in a minute from one address")
    parser.add_argument("--limiter-ttl", type=float, default=60.0, help="that minute, in seconds")
    parser.add_argument("--calls-scale", type=float, default=1.0, help="of the time limits of its calls")
    return parser.parse_args(arguments)


async def run(given: argparse.Namespace) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.request)
    await serve(Laravel(given).answer, listening("127.0.0.1", given.port), stop)


if __name__ == "__main__":
    asyncio.run(run(options()))
