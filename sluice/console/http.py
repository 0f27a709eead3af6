"""The console over HTTP: a page without any data in it, and the data behind a bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.problems import Refusal
from gateway.reload import Resources
from gateway.reserved import PREFIX
from sluice.config import Secret
from sluice.console import circuits, dead
from sluice.console.status import snapshot
from sluice.store.client import StoreAway, StoreRefused

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FILES = {"/": "page.html", "/console.js": "console.js", "/console.css": "console.css"}
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_NO_TOKEN = "console.token is not set; set it in policies.yaml, for example to env:SLUICE_CONSOLE_TOKEN, and restart"  # noqa: S105
_SEND_TOKEN = "send Authorization: Bearer <console.token>"  # noqa: S105

Answer = Callable[[Request], Awaitable[Any]]


def routes(parts: Resources) -> list[Route]:
    """What `gateway.app.run` takes as its console."""

    async def status(_: Request) -> dict[str, Any]:
        return await snapshot(parts)

    async def sessions(_: Request) -> dict[str, Any]:
        return {"sessions": [asdict(row) for row in await parts.registry.sessions()]}

    token = parts.policies.console.token

    def of(work: Callable[[Resources, Request], Awaitable[Any]]) -> Answer:
        return lambda request: work(parts, request)

    return [
        Route(PREFIX, _to_page),
        *(_file(path, name) for path, name in _FILES.items()),
        _guarded("/api/status", status, token),
        _guarded("/api/sessions", sessions, token),
        _guarded("/api/circuits", of(circuits.circuits), token),
        _guarded("/api/circuits/{endpoint}", of(circuits.hold), token, "POST"),
        _guarded("/api/dead", of(dead.listed), token),
        _guarded("/api/dead/replay", of(dead.replay), token, "POST"),
        _guarded("/api/dead/drop", of(dead.drop), token, "POST"),
        _guarded("/api/dead/{endpoint}/{id}", of(dead.shown), token),
    ]


async def _to_page(_: Request) -> Response:
    return RedirectResponse(f"{PREFIX}/", headers=_HEADERS)


def _file(path: str, name: str) -> Route:
    content = (files("sluice.console") / "page" / name).read_bytes()
    media_type = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"

    async def endpoint(_: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return Route(PREFIX + path, endpoint)


def _guarded(path: str, answer: Answer, token: Secret | None, method: str = "GET") -> Route:
    async def endpoint(request: Request) -> Response:
        refusal = _refusal(request.headers.get("authorization", ""), token)
        if refusal is not None:
            return _problem(refusal)
        try:
            content = orjson.dumps(await answer(request))
        except Refusal as refused:
            return _problem(refused)
        except (StoreAway, StoreRefused):
            return _problem(Refusal(503, "the store does not answer; try again", retry_after=b"1"))
        return Response(content, headers=_HEADERS, media_type="application/json")

    return Route(PREFIX + path, endpoint, methods=[method])


def _refusal(authorization: str, token: Secret | None) -> Refusal | None:
    expected = token.reveal() if token else b""
    if not expected:
        return Refusal(403, _NO_TOKEN)
    scheme, _, given = authorization.partition(" ")
    known = hmac.compare_digest(given.strip().encode("latin-1"), expected)
    return None if known and scheme.lower() == "bearer" else Refusal(401, _SEND_TOKEN)


def _problem(refusal: Refusal) -> Response:
    headers = dict(_HEADERS)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.retry_after:
        headers["Retry-After"] = refusal.retry_after.decode()
    return Response(refusal.body(), refusal.status, headers, media_type="application/problem+json")
