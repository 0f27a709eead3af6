"""What the page is served with beside the API: its files, login and logout, and what it sees live.

GET  /_sluice/                        the page; it holds no data
GET  /_sluice/assets/VERSION/PATH     its files, which a browser may keep for good
POST /_sluice/login   {"token": …}    a cookie for who has a token; {"role", "ends_at", "csrf"}
GET  /_sluice/login                   the same of the cookie that comes with the request
POST /_sluice/logout                  the browser forgets the cookie
GET  /_sluice/live                    Server-Sent Events: `status`, every two seconds
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.reserved_access import PREFIX, client_of_scope
from gateway.resources import Resources
from sluice.console.access import COOKIE, LIFE, Login, Person, log_in, person
from sluice.console.live import Live
from sluice.console.page import assets
from sluice.console.page.assets import FOLDER, Asset
from sluice.http.decode import encode
from sluice.http.problem import Refusal
from sluice.http.signed_json import problem

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FOR_GOOD = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
_MAX_LOGIN = 4096  # bytes

Look = Callable[[], Awaitable[bytes]]
"""The status as JSON."""


def routes(resources: Resources, look: Look) -> list[Route]:
    live = Live()

    async def login(request: Request) -> Response:
        try:
            if request.method == "GET":
                known = person_of(resources, request).login
                return _logged_in(request, known) if known else refused(request, Refusal(401, "log in"))
            token = await _token(request)
            client = client_of_scope(request.scope, resources.policies.trust.proxies)
            policy = resources.policies.console
            role = resources.tokens.check(f"Bearer {token}", policy, client, time.monotonic())
            return _with_cookie(request, log_in(role, policy, time.time()))
        except Refusal as refusal:
            return refused(request, refusal)

    async def logout(request: Request) -> Response:
        answer = Response(status_code=204, headers=HEADERS)
        answer.delete_cookie(COOKIE, path=f"{PREFIX}/", httponly=True, samesite="strict")
        return answer

    async def stream(request: Request) -> Response:
        try:
            person_of(resources, request)
            live.enter()
        except Refusal as refusal:
            return refused(request, refusal)
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(_seen(live, resources, look), headers=headers, media_type="text/event-stream")

    return [
        Route(PREFIX, _to_page),
        Route(f"{PREFIX}/", _start),
        Route(f"{PREFIX}/{FOLDER}/{{version}}/{{path:path}}", _file),
        Route(f"{PREFIX}/login", login, methods=["GET", "POST"]),
        Route(f"{PREFIX}/logout", logout, methods=["POST"]),
        Route(f"{PREFIX}/live", stream),
    ]


def person_of(resources: Resources, request: Request) -> Person:
    """Raises Refusal."""
    headers, policies = request.headers, resources.policies
    client = client_of_scope(request.scope, policies.trust.proxies)
    return person(
        headers.get("authorization", ""),
        headers.get("cookie", ""),
        policies.console,
        resources.tokens,
        client,
        time.monotonic(),
        time.time(),
    )


def refused(request: Request, refusal: Refusal) -> Response:
    headers = {name: value for name, value in HEADERS.items() if name != "Content-Security-Policy"}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request, refusal, headers)


async def _seen(live: Live, resources: Resources, look: Look) -> AsyncIterator[bytes]:
    try:
        async for frame in live.frames(resources, look):
            yield frame
    finally:
        live.leave()


async def _token(request: Request) -> str:
    """Raises Refusal 400 and 413."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_LOGIN:
            raise Refusal(413, f"at most {_MAX_LOGIN} bytes")
    try:
        said: Any = orjson.loads(body)
        # A header takes bytes, and so do its readers.
        return str(said["token"]).strip().encode().decode("latin-1")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refusal(400, 'send {"token": "…"}') from None


def _logged_in(request: Request, login: Login) -> Response:
    members = {"role": login.role, "ends_at": datetime.fromtimestamp(login.ends, UTC), "csrf": login.csrf}
    return Response(encode(members), headers=HEADERS, media_type="application/json")


def _with_cookie(request: Request, login: Login) -> Response:
    answer = _logged_in(request, login)
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"
    answer.set_cookie(
        COOKIE, login.cookie, max_age=LIFE, path=f"{PREFIX}/", secure=secure, httponly=True, samesite="strict"
    )
    return answer


async def _to_page(_: Request) -> Response:
    return RedirectResponse(f"{PREFIX}/", headers=HEADERS)


async def _start(request: Request) -> Response:
    return _served(request, assets.page().start, HEADERS)


async def _file(request: Request) -> Response:
    page = assets.page()
    found = page.assets.get(request.path_params["path"])
    if found is None or request.path_params["version"] != page.version:
        return refused(request, Refusal(404, "the page has no such file any more; load it again"))
    return _served(request, found, _FOR_GOOD)


def _served(request: Request, asset: Asset, headers: dict[str, str]) -> Response:
    if "gzip" in request.headers.get("accept-encoding", ""):
        packed = {**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(asset.packed, headers=packed, media_type=asset.media_type)
    return Response(asset.content, headers={**headers, "Vary": "Accept-Encoding"}, media_type=asset.media_type)
