"""The console over HTTP: a page and a description without any data in them, and the rest behind a bearer token."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.problems import Refusal
from gateway.reserved_access import PREFIX, client_of_scope
from gateway.resources import Resources
from sessions.calls import PREFIX as WORKERS
from sessions.profiles.calls import DESCRIPTION, PREFIX as VAULT
from sluice.console import openapi, vault_openapi, workers_openapi
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.audit import Actor, perform
from sluice.console.operations import API, OPERATIONS, SHOW_STATUS, Operation, Q
from sluice.http.decode import Undecodable, decode, encode
from sluice.http.signed_json import problem
from sluice.observe.log import Log
from sluice.process.shared import Shared
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("console")
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
_FRESH = 1.0
"""Seconds for which one look at the status serves everybody."""
_MAX_BODY = 64 * 1024
_STATUS = {
    ProblemKind.INVALID: 400,
    ProblemKind.NOT_FOUND: 404,
    ProblemKind.CONFLICT: 409,
    ProblemKind.UNAVAILABLE: 503,
}


def routes(resources: Resources) -> list[Route]:
    """What `gateway.app.run` takes as its console."""
    shared: Shared[bytes] = Shared(_FRESH)
    return [
        Route(PREFIX, _to_page),
        *(_file(path, name) for path, name in _FILES.items()),
        _description(f"{API}/openapi.json", openapi.document),
        _description(f"{WORKERS}/openapi.json", workers_openapi.document),
        _description(f"{VAULT}/{DESCRIPTION}", vault_openapi.document),
        *(_route(resources, operation, shared) for operation in OPERATIONS),
    ]


async def _to_page(_: Request) -> Response:
    return RedirectResponse(f"{PREFIX}/", headers=_HEADERS)


def _file(path: str, name: str) -> Route:
    content = (files("sluice.console") / "page" / name).read_bytes()
    media_type = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"

    async def endpoint(_: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return Route(PREFIX + path, endpoint)


def _description(path: str, document: Callable[[], dict[str, Any]]) -> Route:
    content = cache(lambda: encode(document()))

    async def endpoint(_: Request) -> Response:
        return Response(content(), headers=_HEADERS, media_type="application/json")

    return Route(path, endpoint)


def _route(resources: Resources, operation: Operation[Any, Any, Any], status: Shared[bytes]) -> Route:
    """`status`: what everybody gets who asks for it within a second."""

    async def perform_for(request: Request) -> bytes | Problem:
        wanted = await _decoded(operation, request)
        if operation is SHOW_STATUS:
            return await status.get(lambda: show_status(wanted))
        outcome = await perform(operation, resources, wanted, _actor(resources, request), _not_audited)
        return outcome if isinstance(outcome, Problem) else encode(outcome)

    async def show_status(wanted: Any) -> bytes:
        return encode(await operation.run(resources, wanted))

    async def endpoint(request: Request) -> Response:
        try:
            _authorize(resources, request)
            outcome = await perform_for(request)
        except Refusal as refusal:
            return _problem(request, refusal)
        except Undecodable as error:
            return _problem(request, Refusal(400, str(error)))
        except (StoreAway, StoreRefused):
            return _problem(request, Refusal(503, "the store does not answer; try again", retry_after=b"1"))
        if isinstance(outcome, Problem):
            return _problem(request, Refusal(_STATUS[outcome.kind], outcome.message))
        return Response(outcome, headers=_HEADERS, media_type="application/json")

    # The last part of a path may hold slashes: an id is whatever its sender made of it.
    path = re.sub(r"}$", ":path}", operation.path)
    return Route(API + path, endpoint, methods=[operation.method])


async def _decoded(operation: Operation[Any, Q, Any], request: Request) -> Q:
    """Raises Refusal or Undecodable."""
    if operation.method == "GET":
        return decode(operation.request, {**request.query_params, **request.path_params}, from_text=True)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY:
            raise Refusal(413, f"at most {_MAX_BODY} bytes")
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        members = None
    if not isinstance(members, dict):
        raise Undecodable("send a JSON object")
    twice = sorted(members.keys() & request.path_params.keys())
    if twice:
        raise Undecodable(f"{twice[0]} stands in the path already")
    return decode(operation.request, {**members, **request.path_params})


def _actor(resources: Resources, request: Request) -> Actor:
    client = client_of_scope(request.scope, resources.policies.trust.proxies)
    return Actor("console.token", client.text, "api")


def _not_audited(why: str, line: bytes) -> None:
    LOG.error("audit.not_written", reason=why, line=line.decode().rstrip())


def _authorize(resources: Resources, request: Request) -> None:
    """Raises Refusal."""
    client = client_of_scope(request.scope, resources.policies.trust.proxies)
    given = request.headers.get("authorization", "")
    resources.tokens.check(given, resources.policies.console.token, client, time.monotonic())


def _problem(request: Request, refusal: Refusal) -> Response:
    headers = {name: value for name, value in _HEADERS.items() if name != "Content-Security-Policy"}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request, refusal, headers)
