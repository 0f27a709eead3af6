"""What a request to a worker says, and whether it is for this worker at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sessions.worker.login import Login
from sessions.worker.worker import Worker
from sluice.http import foreign_json

FENCE_HEADER, ID_HEADER = "x-sluice-fence", "x-sluice-message-id"
_BODY = 50 * 2**20
"""Bytes, as the contract has it."""


def owned(worker: Worker, request: Request, session: str) -> Login:
    """421 unless we run the session and the request speaks of our lease: a lower fence is a late gateway's, with a
    higher one we are late ourselves. Without a fence it comes straight from a person."""
    login = worker.login(session)
    if login is None or fence_of(request) not in (None, login.fence) or not worker.may_act(session):
        raise HTTPException(421, "not the owner")
    return login


def fence_of(request: Request) -> int | None:
    value = request.headers.get(FENCE_HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise HTTPException(400, "X-Sluice-Fence is not a number")
    return int(value)


async def json_object(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > _BODY:
            raise HTTPException(413, f"the body is larger than {_BODY >> 20} MiB")
    try:
        body = foreign_json.loads(bytes(raw))
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return body


def text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise HTTPException(400, f"{name} is missing or not a text")
    return value


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"success": False, "error": error.detail}, error.status_code, error.headers)
