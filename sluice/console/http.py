"""The console over HTTP: a page and descriptions without any data in them, and the rest for those who have a token."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import orjson
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.problems import Refusal
from gateway.reserved_access import client_of_scope
from gateway.resources import Resources
from sessions.calls import PREFIX as WORKERS
from sessions.profiles.calls import DESCRIPTION, PREFIX as VAULT
from sluice.console import openapi, vault_openapi, workers_openapi
from sluice.console.access import CSRF, Person, may_change, may_see_secrets
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.audit import Actor, Readers, perform
from sluice.console.operations import API, OPERATIONS, SHOW_STATUS, Operation, Q
from sluice.console.page import routes as page
from sluice.console.page.routes import HEADERS, person_of, refused
from sluice.console.status import ShowStatus
from sluice.http.decode import Undecodable, decode, encode
from sluice.observe.log import Log
from sluice.process.shared import Shared
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("console")
_FRESH = 1.0
"""Seconds for which one look at the status serves everybody."""
_STATUS = {
    ProblemKind.INVALID: 400,
    ProblemKind.NOT_FOUND: 404,
    ProblemKind.CONFLICT: 409,
    ProblemKind.UNAVAILABLE: 503,
}


class _Id(PathConvertor):
    """Also one with a line break in it, which `path` does not match."""

    regex = "(?s:.*)"


register_url_convertor("id", _Id())


def routes(resources: Resources) -> list[Route]:
    """What `gateway.app.run` takes as its console."""
    shared: Shared[bytes] = Shared(_FRESH)
    readers = Readers()

    async def look() -> bytes:
        return await shared.get(lambda: _status(resources))

    return [
        *page.routes(resources, look),
        _description(f"{API}/openapi.json", openapi.document),
        _description(f"{WORKERS}/openapi.json", workers_openapi.document),
        _description(f"{VAULT}/{DESCRIPTION}", vault_openapi.document),
        *(_route(resources, operation, look, readers) for operation in OPERATIONS),
    ]


async def _status(resources: Resources) -> bytes:
    return encode(await SHOW_STATUS.run(resources, ShowStatus()))


def _description(path: str, document: Callable[[], dict[str, Any]]) -> Route:
    content = cache(lambda: encode(document()))

    async def endpoint(_: Request) -> Response:
        return Response(content(), headers=HEADERS, media_type="application/json")

    return Route(path, endpoint)


def _route(
    resources: Resources, operation: Operation[Any, Any, Any], look: Callable[[], Awaitable[bytes]], readers: Readers
) -> Route:
    """`look`: the status that everybody gets who asks for it within a second."""

    async def perform_for(request: Request) -> bytes | Problem:
        person = person_of(resources, request)
        if operation.changes:
            may_change(person, request.headers.get(CSRF, ""))
        if operation.is_secret:
            may_see_secrets(person)
        wanted = await _decoded(operation, request)
        if operation is SHOW_STATUS:
            return await look()
        actor = _actor(resources, request, person)
        outcome = await perform(operation, resources, wanted, actor, _not_audited, readers)
        return outcome if isinstance(outcome, Problem) else encode(outcome)

    async def endpoint(request: Request) -> Response:
        try:
            outcome = await perform_for(request)
        except Refusal as refusal:
            return refused(request, refusal)
        except Undecodable as error:
            return refused(request, Refusal(400, str(error)))
        except (StoreAway, StoreRefused):
            return refused(request, Refusal(503, "the store does not answer; try again", retry_after=b"1"))
        if isinstance(outcome, Problem):
            return refused(request, Refusal(_STATUS[outcome.kind], outcome.message))
        return Response(outcome, headers=HEADERS, media_type="application/json")

    # The last part of a path may hold slashes: an id is whatever its sender made of it.
    path = re.sub(r"}$", ":id}", operation.path)
    return Route(API + path, endpoint, methods=[operation.method])


async def _decoded(operation: Operation[Any, Q, Any], request: Request) -> Q:
    """Raises Refusal or Undecodable."""
    if operation.method == "GET":
        return decode(operation.request, {**request.query_params, **request.path_params}, from_text=True)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > operation.max_body:
            raise Refusal(413, f"at most {operation.max_body} bytes")
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


def _actor(resources: Resources, request: Request, person: Person) -> Actor:
    client = client_of_scope(request.scope, resources.policies.trust.proxies)
    return Actor(person.token, client.text, person.through)


def _not_audited(why: str, line: bytes) -> None:
    LOG.error("audit.not_written", reason=why, line=line.decode().rstrip())
