"""A worker without a browser: the existing Node service's HTTP API and webhooks, and the demo's traffic.

A session's life here, 40 ms long up to the end of the arrow:

    qr_scanning ── session_authenticated ──> authenticated ── session_ready ──> connected (its traffic flows)

Webhooks are posted as the Node service does: signed, one after the other per session, 10 s each, never again when
refused. What that loses is counted, so that a run shows what stands between the workers and Laravel.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sluice.config import Signature
from sluice.demo import traffic
from sluice.demo.laravel import KEPT, ndjson
from sluice.demo.traffic import Event
from sluice.http.signatures import sign
from sluice.observe.log import Log

FENCE_HEADER = "x-sluice-fence"
WEBHOOKS = "/api/whatsapp/webhooks/webjs"
TIMEOUT = 10.0
"""Seconds for one webhook, from connecting to the end of the answer."""

DRAIN_TIMEOUT = 0.2
"""Seconds in which a stopped session may still send what waits; within the margin by which a lease ends early here."""
UNCONFIRMED = 15.0
"""Seconds a session that a gateway placed here by HTTP runs before `start` has to confirm it."""

_STEP = 0.02
_WAITING = 1_000
_BODY = 64 * 1024
_CONNECTIONS = 200

log = Log("demo.worker")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A webhook that was answered 2xx."""

    id: str | None
    """The `id` of the answer; Laravel gives none."""
    event: str
    session: str
    sequence: int | None


@dataclass(slots=True)
class Counts:
    sent: Counter[str] = field(default_factory=Counter)
    """By event type: posts that were begun."""
    accepted: Counter[str] = field(default_factory=Counter)
    """By event type: posts that were answered 2xx."""
    lost: Counter[str] = field(default_factory=Counter)
    """By why: the answer's status, `timeout`, `unreachable`, `overflow` (never sent: too many waited), `stopped`."""


class DemoWorker:
    """Runs the sessions that it is given. `start`, `stop` and `state` are for the membership that holds the leases,
    `app()` for the gateway.

    `url` is this worker's own address, sent along with every webhook. `minute` is the length of a minute of traffic,
    `timeout` the longest one webhook may take; all in seconds.
    """

    def __init__(
        self,
        name: str,
        laravel_url: str,
        signature: Signature,
        url: str,
        *,
        minute: float = 60.0,
        traffic: bool = True,
        timeout: float = TIMEOUT,
        drain_timeout: float = DRAIN_TIMEOUT,
        unconfirmed: float = UNCONFIRMED,
    ) -> None:
        self.name = name
        self.fence_of: Callable[[str], int | None] | None = None
        """Where set (`Membership.fence_of`), called before every act of a confirmed session."""
        self.on_gone: Callable[[str, int], object] | None = None
        """Where set (`Membership.end`), called with a session that a person has ended, and its fence."""
        self._minute = minute if traffic else None
        self._drain_timeout = drain_timeout
        self._unconfirmed = unconfirmed
        self._webhooks = _Webhooks(laravel_url, signature, url, timeout)
        self._logins: dict[str, _Login] = {}
        self._ending: dict[str, _Login] = {}
        self._expiring: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def counts(self) -> Counts:
        return self._webhooks.counts

    @property
    def accepted(self) -> list[Accepted]:
        """The newest webhooks that were answered 2xx, in the order of the answers."""
        return list(self._webhooks.accepted)

    async def start(self, session: str, fence: int) -> None:
        """Runs the session from now on; for one that runs already, confirms it and takes over a higher fence.

        Does nothing once closed.
        """
        login = self._run(session, fence)
        if login is not None and fence >= login.fence:
            login.fence = fence
            login.confirmed = True

    async def place(self, session: str, fence: int) -> None:
        """As `start`, by order of a gateway: it ends by itself unless `start` confirms it within `unconfirmed`."""
        if session in self._logins:
            return
        login = self._run(session, fence)
        if login is not None:
            login.confirmed_by = time.monotonic() + self._unconfirmed
            expiry = asyncio.create_task(self._expire(login))
            self._expiring.add(expiry)
            expiry.add_done_callback(self._expiring.discard)

    async def stop(self, session: str) -> None:
        """Ends the session here without a webhook, as it goes on elsewhere: no answer and no new event from now on.
        What waits to be sent has `drain_timeout` seconds more."""
        login = self._logins.pop(session, None)
        if login is None:
            return
        self._ending[session] = login
        try:
            await login.end(self._drain_timeout)
        finally:
            if self._ending.get(session) is login:
                del self._ending[session]

    async def close(self) -> None:
        """Stops every session, then the connections; no task is left."""
        self._closed = True
        for expiry in self._expiring:
            expiry.cancel()
        await asyncio.gather(*self._expiring, return_exceptions=True)
        await asyncio.gather(*(self.stop(session) for session in list(self._logins)))
        await asyncio.gather(*(login.ended.wait() for login in list(self._ending.values())))
        await self._webhooks.close()

    def state(self, session: str) -> tuple[str, str | None, str | None]:
        """State, phone and reason; `starting` for one that does not run here yet."""
        login = self._logins.get(session)
        return (login.state, login.phone, login.reason) if login is not None else ("starting", None, None)

    async def end_for_good(self, session: str) -> None:
        """A person has ended it: stops it, and says so to `on_gone`."""
        login = self._logins.get(session)
        if self.on_gone is not None and login is not None:
            self.on_gone(session, login.fence)
        await self.stop(session)

    def logins(self) -> list[_Login]:
        return list(self._logins.values())

    def login(self, session: str) -> _Login | None:
        return self._logins.get(session)

    def may_act(self, login: _Login) -> bool:
        """Whether the lease still stands at this very moment, even when the process was frozen meanwhile."""
        if not login.confirmed:
            return time.monotonic() < login.confirmed_by
        return self.fence_of is None or self.fence_of(login.session) == login.fence

    def app(self) -> Starlette:
        return _Api(self).app()

    def _run(self, session: str, fence: int) -> _Login | None:
        if self._closed:
            return None
        if session not in self._logins:
            # One that still sends its last events comes first, or the session's events would overtake each other.
            before = self._ending.get(session)
            after = before.ended if before is not None else None
            self._logins[session] = _Login(session, fence, self._webhooks, self._minute, after, self.may_act)
        return self._logins[session]

    async def _expire(self, login: _Login) -> None:
        await asyncio.sleep(login.confirmed_by - time.monotonic())
        if not login.confirmed and self._logins.get(login.session) is login:
            log.warning("session.unconfirmed", worker=self.name, session=login.session, fence=login.fence)
            await self.stop(login.session)


class _Webhooks:
    """Posts to Laravel, once each, and counts what became of it."""

    def __init__(self, laravel_url: str, signature: Signature, url: str, timeout: float) -> None:
        self.counts = Counts()
        self.accepted: deque[Accepted] = deque(maxlen=KEPT)
        self._address = laravel_url.rstrip("/") + WEBHOOKS
        self._signature = signature
        self._timeout = timeout
        self._headers = [
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"WhatsApp-WebJS-Service/1.0"),
            (b"X-Instance-Url", url.encode()),
            (b"Connection", b"close"),
        ]
        limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=0)
        self._client = httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False)

    async def post(self, event: Event, fence: int) -> None:
        """`fence`: the one under which its session runs, for who refuses what a former owner sends."""
        self.counts.sent[event["event"]] += 1
        body = orjson.dumps(event)
        headers = [*self._headers, (b"X-Sluice-Fence", b"%d" % fence), *sign(self._signature, body, time.time())]
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._client.post(self._address, content=body, headers=headers)
        except asyncio.CancelledError:
            self.counts.lost["stopped"] += 1
            raise
        except (TimeoutError, httpx2.TimeoutException):
            self.counts.lost["timeout"] += 1
        except httpx2.RequestError:
            self.counts.lost["unreachable"] += 1
        else:
            self._answered(event, answer)

    async def close(self) -> None:
        await self._client.aclose()

    def _answered(self, event: Event, answer: httpx2.Response) -> None:
        if not answer.is_success:
            self.counts.lost[str(answer.status_code)] += 1
            return
        self.counts.accepted[event["event"]] += 1
        data = event["data"]
        self.accepted.append(Accepted(_id(answer), event["event"], data["session_id"], data.get("sequence")))


class _Login:
    """One session that runs here: its life, and the queue that keeps its webhooks in order."""

    def __init__(
        self,
        session: str,
        fence: int,
        webhooks: _Webhooks,
        minute: float | None,
        after: asyncio.Event | None,
        may_act: Callable[[_Login], bool],
    ) -> None:
        self.session = session
        self.fence = fence
        self.confirmed = False
        self.confirmed_by = float("inf")
        self.state = "qr_scanning"
        self.phone: str | None = None
        self.reason: str | None = None
        self.connected_at: float | None = None
        self.last_activity = time.time()
        self.metadata: dict[str, Any] = {}
        self.ended = asyncio.Event()
        self._ending = False
        self._may_act = may_act
        self._minute = minute
        self._webhooks = webhooks
        self._connected = asyncio.Event()
        self._queue: asyncio.Queue[Event] = asyncio.Queue(_WAITING)
        self._sending = self._task(lambda: self._send(after))
        self._living = self._task(lambda: self._live(qr=False))

    def restart(self, *, qr: bool) -> None:
        """Goes through the login once more, with a new QR code or with the one it has."""
        if self._ending:
            return
        self._living.cancel()
        self._living = self._task(lambda: self._live(qr=qr))

    async def connected(self, timeout: float) -> bool:
        """Whether it is, at the latest after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    async def end(self, drain_timeout: float) -> None:
        """No new event from now on; what waits has `drain_timeout` seconds to be sent."""
        self._ending = True
        self._living.cancel()
        try:
            async with asyncio.timeout(drain_timeout):
                await self._queue.join()
        except TimeoutError:
            self._webhooks.counts.lost["stopped"] += self._queue.qsize()
        finally:
            self._sending.cancel()
            await asyncio.wait([self._living, self._sending])
            self.ended.set()

    def emit(self, name: str, data: dict[str, Any]) -> None:
        self._enqueue(traffic.event(name, self.session, data))

    def _enqueue(self, event: Event) -> None:
        if self._ending or not self._may_act(self):
            return
        self.last_activity = time.time()
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._webhooks.counts.lost["overflow"] += 1

    async def _live(self, *, qr: bool) -> None:
        self._connected.clear()
        self.state = "qr_scanning"
        if qr:
            self.emit("qr_code_generated", _QR)
        await asyncio.sleep(_STEP)
        self.state = "authenticated"
        self.emit("session_authenticated", {"status": "authenticated"})
        await asyncio.sleep(_STEP)
        self.state = "connected"
        self.phone = traffic.phone(self.session)
        self.connected_at = time.time()
        ready = {"phone_number": self.phone, "status": "connected", "platform": "demo", "extraction_method": "demo"}
        self.emit("session_ready", ready)
        self._connected.set()
        if self._minute is not None:
            await self._follow(self._minute)

    async def _follow(self, minute: float) -> None:
        """Emits each event when it is due by the wall clock, so that the next worker goes on where this one stops."""
        started = self._position(minute)
        number = int(started)
        while True:
            for timed in traffic.minute(self.session, number):
                due = number + timed.at
                if due > started:
                    await asyncio.sleep(max(0.0, (due - self._position(minute)) * minute))
                    self._enqueue(timed.event)
            number = max(number + 1, int(self._position(minute)))

    def _position(self, minute: float) -> float:
        return time.time() / minute + traffic.phase(self.session)

    async def _send(self, after: asyncio.Event | None) -> None:
        if after is not None:
            await after.wait()
        while True:
            event = await self._queue.get()
            try:
                await self._webhooks.post(event, self.fence)
            finally:
                self._queue.task_done()

    def _task(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(self._watched(work))

    async def _watched(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - our own mistake: this session shows it, the others go on
            self.state, self.reason = "failed", f"{type(error).__name__}: {error}"[:200]
            log.error("session.failed", session=self.session, exception=error)


class _Api:
    """What Laravel asks of a worker (whatsapp-service's routes), refused with 421 when we are not the owner."""

    def __init__(self, worker: DemoWorker) -> None:
        self._worker = worker

    def app(self) -> Starlette:
        one = "/api/sessions/{session}"
        return Starlette(
            routes=[
                Route("/api/sessions", self.index),
                Route("/api/sessions", self.create, methods=["POST"]),
                Route(one, self.delete, methods=["DELETE"]),
                Route(f"{one}/status", self.status),
                Route(f"{one}/metadata", self.metadata),
                Route(f"{one}/metadata", self.set_metadata, methods=["PUT"]),
                Route(f"{one}/reconnect", self._restart(qr=False), methods=["POST"]),
                Route(f"{one}/restore", self._restart(qr=False), methods=["POST"]),
                Route(f"{one}/regenerate-qr", self._restart(qr=True), methods=["POST"]),
                Route("/api/messages/send", self.send, methods=["POST"]),
                Route("/health", self.health),
                Route("/health/ready", _always({"ready": True})),
                Route("/health/live", _always({"alive": True})),
                Route("/demo/accepted", self.accepted),
            ],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=self._sign)],
            exception_handlers={HTTPException: _refused},
        )

    async def _sign(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Says on every answer who gave it."""
        response = await call_next(request)
        response.headers["X-Demo-Worker"] = self._worker.name
        return response

    async def index(self, request: Request) -> Response:
        return JSONResponse({"success": True, "sessions": [_status(login) for login in self._worker.logins()]})

    async def create(self, request: Request) -> Response:
        session = _text(await _object(request), "session_id")
        fence = _fence(request)
        if fence is not None:
            await self._worker.place(session, fence)
        login = self._owned(request, session)
        return JSONResponse({"success": True, "session_id": session, "status": login.state})

    async def delete(self, request: Request) -> Response:
        login = self._of_path(request)
        await self._worker.end_for_good(login.session)
        return JSONResponse({"success": True, "session_id": login.session})

    async def status(self, request: Request) -> Response:
        return JSONResponse({"success": True, **_status(self._of_path(request))})

    async def metadata(self, request: Request) -> Response:
        login = self._of_path(request)
        return JSONResponse({"success": True, "session_id": login.session, "metadata": login.metadata})

    async def set_metadata(self, request: Request) -> Response:
        metadata = await _object(request)
        login = self._of_path(request)
        login.metadata = metadata
        return JSONResponse({"success": True, "session_id": login.session, "metadata": metadata})

    async def send(self, request: Request) -> Response:
        body = await _object(request)
        session, recipient, text = (_text(body, name) for name in ("session_id", "recipient_phone", "message"))
        login = self._owned(request, session)
        if not await login.connected(timeout=1.0):
            raise HTTPException(409, f"the session is {login.state}, not connected")
        self._owned(request, session)  # once more: it may have moved while we waited
        chat = f"{recipient.lstrip('+')}@c.us"
        message = f"true_{chat}_{secrets.token_hex(10).upper()}"
        timestamp = int(time.time())
        content = {"id": message, "to": chat, "body": text, "timestamp": timestamp, "from_me": True, "type": "chat"}
        login.emit("message_sent", {"message": content})
        return JSONResponse({"success": True, "message_id": message, "timestamp": timestamp})

    async def health(self, request: Request) -> Response:
        logins = self._worker.logins()
        connected = sum(login.state == "connected" for login in logins)
        health = {
            "status": "healthy",
            "worker": self._worker.name,
            "sessions": {"total": len(logins), "connected": connected},
            "events": self._worker.counts,
        }
        return Response(orjson.dumps(health), media_type="application/json")

    async def accepted(self, request: Request) -> Response:
        return StreamingResponse(ndjson(self._worker.accepted), media_type="application/x-ndjson")

    def _restart(self, *, qr: bool) -> Callable[[Request], Awaitable[Response]]:
        async def restart(request: Request) -> Response:
            login = self._of_path(request)
            login.restart(qr=qr)
            return JSONResponse({"success": True, "session_id": login.session, "status": "qr_scanning"})

        return restart

    def _of_path(self, request: Request) -> _Login:
        return self._owned(request, request.path_params["session"])

    def _owned(self, request: Request, session: str) -> _Login:
        """421 unless we run the session and the request speaks of our lease: a lower fence is a late gateway's, with
        a higher one we are late ourselves. Without a fence it comes straight from a person."""
        login = self._worker.login(session)
        fence = _fence(request)
        if login is None or fence not in (None, login.fence) or not self._worker.may_act(login):
            raise HTTPException(421, "not the owner")
        return login


def _always(answer: dict[str, bool]) -> Callable[[Request], Response]:
    return lambda request: JSONResponse(answer)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"success": False, "error": error.detail}, status_code=error.status_code)


async def _object(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > _BODY:
            raise HTTPException(413, f"the body is larger than {_BODY} bytes")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise HTTPException(400, f"{name} is missing or not a text")
    return value


def _fence(request: Request) -> int | None:
    value = request.headers.get(FENCE_HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise HTTPException(400, "X-Sluice-Fence is not a number")
    return int(value)


def _status(login: _Login) -> dict[str, Any]:
    return {
        "session_id": login.session,
        "status": login.state,
        "phone_number": login.phone,
        "workspace_id": traffic.workspace(login.session),
        "connected_at": _moment(login.connected_at),
        "last_activity": _moment(login.last_activity),
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _id(answer: httpx2.Response) -> str | None:
    try:
        content = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None
    return content["id"] if isinstance(content, dict) and isinstance(content.get("id"), str) else None


_QR = {
    # A picture of one white pixel: there is nothing to scan.
    "qr_code": "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==",
    "expires_in": 60,
    "qr_count": 1,
    "is_regeneration": True,
}
