"""The contract's API for messages."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessions.worker.fetching import NotFetched, fetch
from sessions.worker.login import Login, Media, NotConnected, NotOurs, NotYet, SendRefused, SendUnknown, Sent
from sessions.worker.requests import ID_HEADER, json_object, owned, text
from sessions.worker.worker import Worker

_CONNECTS_WITHIN = 5.0
_RECIPIENTS = 10_000
_BETWEEN = 1.0
"""Seconds after each message of a bulk-send, as the contract has it."""
PHONE = re.compile(r"\+?(\d{5,20})")
_CHAT = re.compile(r"[\d-]{5,40}@(c\.us|g\.us|lid)")


class MessagesApi:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def routes(self) -> list[Route]:
        one = "/api/messages/{session}"
        return [
            Route("/api/messages/send", self.send, methods=["POST"]),
            Route("/api/messages/send-media", self.send_media, methods=["POST"]),
            Route("/api/messages/bulk-send", self.bulk_send, methods=["POST"]),
            Route(f"{one}/status", self.status),
            Route(f"{one}/validate", self.validate),
        ]

    async def send(self, request: Request) -> Response:
        body = await json_object(request)
        session, chat, message = text(body, "session_id"), _chat(text(body, "recipient_phone")), text(body, "message")
        login = await self._connected(request, session)
        sent = await done(login.send(chat, message, request.headers.get(ID_HEADER)))
        return JSONResponse({"success": True, "message_id": sent.message_id, "timestamp": sent.timestamp})

    async def send_media(self, request: Request) -> Response:
        body = await json_object(request)
        session, chat = text(body, "session_id"), _chat(text(body, "recipient_phone"))
        owned(self._worker, request, session)
        media = await _media(body)
        login = await self._connected(request, session)
        sent = await done(login.send(chat, media, request.headers.get(ID_HEADER)))
        return JSONResponse({"success": True, "message_id": sent.message_id, "timestamp": sent.timestamp})

    async def bulk_send(self, request: Request) -> Response:
        body = await json_object(request)
        recipients, message = body.get("recipients"), text(body, "message")
        if not isinstance(recipients, list) or not 0 < len(recipients) <= _RECIPIENTS:
            raise HTTPException(400, f"recipients is a list of 1 to {_RECIPIENTS}")
        login = owned(self._worker, request, text(body, "session_id"))
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for number, recipient in enumerate(recipients):
            if number and len(results) == number - len(errors):
                await asyncio.sleep(_BETWEEN)
            try:
                sent = await self._one_of_many(request, login, recipient, message, number)
                results.append({"recipient": recipient, "message_id": sent.message_id, "success": True})
            except (HTTPException, NotConnected, SendRefused, SendUnknown) as error:
                errors.append({"recipient": recipient, "error": getattr(error, "detail", None) or str(error)})
        counted = {"total": len(recipients), "successful": len(results), "failed": len(errors)}
        return JSONResponse({"success": True, **counted, "results": results, "errors": errors})

    async def _one_of_many(self, request: Request, login: Login, recipient: object, message: str, number: int) -> Sent:
        owned(self._worker, request, login.session)
        given = request.headers.get(ID_HEADER)
        return await login.send(_chat(recipient), message, f"{given}.{number}" if given else None)

    async def status(self, request: Request) -> Response:
        login = owned(self._worker, request, request.path_params["session"])
        message = request.query_params.get("message_id", "")
        if not message:
            raise HTTPException(400, "message_id is missing")
        about = {"session_id": login.session, "message_id": message, "session_status": login.state}
        return JSONResponse({"success": True, **about})

    async def validate(self, request: Request) -> Response:
        login = owned(self._worker, request, request.path_params["session"])
        can = login.state == "connected"
        about = {"can_send": can, "is_healthy": can, "last_activity": moment(login.last_activity)}
        more = {"phone_number": login.phone, "recommendations": [] if can else [login.reason or login.state]}
        return JSONResponse({"success": True, "session_id": login.session, "status": login.state, **about, **more})

    async def _connected(self, request: Request, session: str) -> Login:
        """Ours, and connected if it will be in a moment."""
        login = owned(self._worker, request, session)
        until = time.monotonic() + _CONNECTS_WITHIN
        while login.state != "connected" and time.monotonic() < until:
            await asyncio.sleep(0.05)
            login = owned(self._worker, request, session)
        return login


async def done(acting: Awaitable[Any]) -> Any:
    try:
        return await acting
    except NotOurs as error:
        raise HTTPException(421, str(error)) from None
    except NotYet as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from None
    except NotConnected as error:
        raise HTTPException(400, str(error)) from None
    except SendRefused as error:
        raise HTTPException(422, str(error)) from None
    except SendUnknown as error:
        raise HTTPException(500, f"it is not known whether it was sent: {error}") from None


async def _media(body: Mapping[str, Any]) -> Media:
    caption, filename = body.get("caption"), body.get("filename")
    try:
        content, mimetype, name = await fetch(text(body, "media_url"))
    except NotFetched as error:
        raise HTTPException(400, f"media_url: {error}") from None
    return Media(
        content,
        mimetype,
        filename[:200] if isinstance(filename, str) and filename else name,
        caption[:4096] if isinstance(caption, str) else "",
    )


def _chat(recipient: object) -> str:
    chat = recipient.strip() if isinstance(recipient, str) else ""
    if _CHAT.fullmatch(chat):
        return chat
    found = PHONE.fullmatch(re.sub(r"[\s().-]", "", chat))
    if found is None:
        raise HTTPException(400, "recipient_phone is no phone number with the code of its country, and no chat")
    return f"{found[1]}@c.us"


def moment(seconds: float | None) -> str | None:
    """As the contract writes a moment, which is given in seconds since 1970."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
