"""How workers, in any language, register, beat and leave.

Every request is signed over the exact bytes of its body. Every refusal is problem+json (RFC 9457) and says the cure.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessions.registry import WORKER_ID, Registry, Report, UnknownWorker, Worker
from sluice.config import Signature
from sluice.config.problems import Malformed
from sluice.config.urls import http_url
from sluice.http.signatures import refusal
from sluice.store.client import StoreAway, StoreRefused

PREFIX = "/_sluice/workers"
_MAX_BODY = 1024 * 1024
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    409: "Conflict",
    413: "Content Too Large",
    503: "Service Unavailable",
}

Fields = dict[str, Any]
Answer = Callable[[Request, Fields], Awaitable[Fields]]


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def routes(
    registry: Registry, signature: Callable[[], Signature | None], now: Callable[[], float] = time.time
) -> list[Route]:
    """`signature` is asked at each request, so that an edit of the policies counts at once; None refuses everybody."""
    beat_every = registry.lease / 3

    async def register(_: Request, fields: Fields) -> Fields:
        await registry.register(_worker(fields))
        return {"lease": registry.lease, "beat": beat_every}

    async def beat(request: Request, fields: Fields) -> Fields:
        worker = request.path_params["id"]
        held = await registry.beat(worker, _text(fields, "instance"), _reports(fields), _gone(fields))
        return {"lease": registry.lease, "sessions": held}

    async def leave(request: Request, fields: Fields) -> Fields:
        return {"left": await registry.deregister(request.path_params["id"], _text(fields, "instance"))}

    def post(path: str, answer: Answer) -> Route:
        async def endpoint(request: Request) -> Response:
            return await _answer(request, answer, signature(), now())

        return Route(PREFIX + path, endpoint, methods=["POST"])

    return [post("", register), post("/{id}/beat", beat), post("/{id}/leave", leave)]


async def _answer(request: Request, answer: Answer, signature: Signature | None, now: float) -> Response:
    try:
        fields = await _verified(request, signature, now)
        return _json(200, await answer(request, fields))
    except _Refused as refused:
        return _problem(refused.status, refused.detail)
    except UnknownWorker:
        return _problem(409, "register first")
    except (StoreAway, StoreRefused):
        return _problem(503, "the store does not answer; try again", {"Retry-After": "1"})


async def _verified(request: Request, signature: Signature | None, now: float) -> Fields:
    if signature is None:
        raise _Refused(403, "sessions.verify names no signature; set it in policies.yaml")
    body = await _body(request)
    reason = refusal(signature, request.headers.raw, body, now)
    if reason is not None:
        raise _Refused(401, reason)
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Refused(400, f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _Refused(400, f"the body must be a JSON object, not {_kind(fields)}")
    return fields


async def _body(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > _MAX_BODY:
            raise _Refused(413, f"the body may have {_MAX_BODY} bytes")
    return bytes(chunks)


# --- fields


def _worker(fields: Fields) -> Worker:
    worker = _text(fields, "id")
    if not WORKER_ID.fullmatch(worker):
        raise _Refused(400, "id: must be 1 to 128 of A-Z a-z 0-9 . _ : [ ] -")
    return Worker(worker, _text(fields, "instance"), _url(fields), _whole(fields.get("capacity"), "capacity"))


def _reports(fields: Fields) -> dict[str, Report]:
    reports = _mapping(fields.get("sessions"), "sessions")
    return {session: _report(report, f"sessions.{session}") for session, report in reports.items()}


def _report(report: object, name: str) -> Report:
    fields = _mapping(report, name)
    phone = fields.get("phone")
    if phone is not None and not isinstance(phone, str):
        _wrong(f"{name}.phone", "a string or null", phone)
    return Report(_whole(fields.get("fence"), f"{name}.fence"), _text(fields, "state", f"{name}."), phone)


def _gone(fields: Fields) -> dict[str, int]:
    gone = _mapping(fields.get("gone", {}), "gone")
    return {session: _whole(fence, f"gone.{session}") for session, fence in gone.items()}


def _url(fields: Fields) -> str:
    try:
        return http_url(_text(fields, "url"))
    except Malformed:
        raise _Refused(400, "url: must be http://host:port, where the gateway reaches this worker") from None


def _text(fields: Fields, name: str, within: str = "") -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        _wrong(within + name, "a non-empty string", value)
    return value


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        _wrong(name, "a whole number from 0 on", value)
    return value


def _mapping(value: object, name: str) -> Fields:
    if not isinstance(value, dict):
        _wrong(name, "an object", value)
    return value


def _wrong(name: str, wanted: str, value: object) -> NoReturn:
    raise _Refused(400, f"{name}: must be {wanted}, not {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "null or absent"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "this string", list: "a list"}
    return kinds.get(type(value), "an object")


# --- answers


def _json(status: int, fields: Fields) -> Response:
    return Response(orjson.dumps(fields), status, media_type="application/json")


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    fields = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": detail}
    return Response(orjson.dumps(fields), status, headers, media_type="application/problem+json")
