"""How workers, in any language, register, beat and leave.

Every request is signed over the exact bytes of its body. Every refusal is problem+json (RFC 9457) and says the cure.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessions.registry import WORKER_ID, Registry, Report, UnknownWorker, Worker
from sluice.config import Signature
from sluice.config.problems import Malformed
from sluice.config.urls import http_url
from sluice.http.bodies import BodyBudget, HeldBody
from sluice.http.problem import ClientGone, Refusal
from sluice.http.signed_json import parse, problem, read, wrong
from sluice.store.client import StoreAway, StoreRefused

PREFIX = "/_sluice/workers"
_MAX_BODY = 1024 * 1024
Fields = dict[str, Any]
Answer = Callable[[Request, Fields], Awaitable[Fields]]


def routes(
    registry: Registry,
    bodies: BodyBudget,
    signature: Callable[[], Signature | None],
    now: Callable[[], float] = time.time,
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
            return await _answer(request, HeldBody(bodies), answer, signature(), now())

        return Route(PREFIX + path, endpoint, methods=["POST"])

    return [post("", register), post("/{id}/beat", beat), post("/{id}/leave", leave)]


async def _answer(
    request: Request, held: HeldBody, answer: Answer, signature: Signature | None, now: float
) -> Response:
    try:
        fields = parse(await read(request, held, signature, "sessions.verify", _MAX_BODY, now))
        if not isinstance(fields, dict):
            wrong("the body", "a JSON object", fields)
        return Response(orjson.dumps(await answer(request, fields)), media_type="application/json")
    except Refusal as refused:
        return problem(refused)
    except ClientGone:
        return Response(status_code=400)  # nobody reads it
    except UnknownWorker:
        return problem(Refusal(409, "register first"))
    except (StoreAway, StoreRefused):
        return problem(Refusal(503, "the store does not answer; try again", retry_after=b"1"))
    finally:
        held.release()


# --- fields


def _worker(fields: Fields) -> Worker:
    worker = _text(fields, "id")
    if not WORKER_ID.fullmatch(worker):
        raise Refusal(400, "id: must be 1 to 128 of A-Z a-z 0-9 . _ : [ ] -")
    return Worker(worker, _text(fields, "instance"), _url(fields), _whole(fields.get("capacity"), "capacity"))


def _reports(fields: Fields) -> dict[str, Report]:
    reports = _mapping(fields.get("sessions"), "sessions")
    return {session: _report(report, f"sessions.{session}") for session, report in reports.items()}


def _report(report: object, name: str) -> Report:
    fields = _mapping(report, name)
    phone = fields.get("phone")
    if phone is not None and not isinstance(phone, str):
        wrong(f"{name}.phone", "a string or null", phone)
    return Report(_whole(fields.get("fence"), f"{name}.fence"), _text(fields, "state", f"{name}."), phone)


def _gone(fields: Fields) -> dict[str, int]:
    gone = _mapping(fields.get("gone", {}), "gone")
    return {session: _whole(fence, f"gone.{session}") for session, fence in gone.items()}


def _url(fields: Fields) -> str:
    try:
        return http_url(_text(fields, "url"))
    except Malformed:
        raise Refusal(400, "url: must be http://host:port, where the gateway reaches this worker") from None


def _text(fields: Fields, name: str, within: str = "") -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        wrong(within + name, "a non-empty string", value)
    return value


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        wrong(name, "a whole number from 0 on", value)
    return value


def _mapping(value: object, name: str) -> Fields:
    if not isinstance(value, dict):
        wrong(name, "an object", value)
    return value
