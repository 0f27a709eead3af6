"""WhatsApp's side of the stand-in: phones, linked devices, and messages that are kept until a device has them.

async with whatsapp(tmp_path) as server:
    server.browser                 an executable: Chromium, for which web.whatsapp.com is this server
    await server.scan(phone, code)             the page that shows this code is scanned by this phone
    await server.type_in(pairing_code)         as somebody types it into their phone
    await server.incoming(phone, sender, body)
    server.sent                                what was sent, in order
    server.tell(phone, what, data)             what happens to the device that is connected
    server.modes[phone] = {"mib": 300}         what its page does otherwise from its next start on
    server.loads.clear()                       the page does not load until it is set again
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import shutil
import ssl
import stat
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.authority import certify

PAGE = Path(__file__).with_name("page.html")
HOST = "web.whatsapp.com"
_POLL = 5.0


@dataclass
class Device:
    """A browser that is linked with a phone; of two at a time the older one gets a conflict."""

    key: str
    queue: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)


@dataclass
class Connection:
    """Of a device, as this side sees it: by the machine's monotonic clock, in seconds."""

    phone: str
    device: str
    began: float
    ended: float = float("inf")


@dataclass(frozen=True)
class SentMessage:
    id: str
    phone: str
    to: str
    body: str
    type: str = "chat"
    mimetype: str | None = None
    filename: str | None = None
    data: str | None = None
    """In base64."""


class WhatsApp:
    def __init__(self) -> None:
        self.sent: list[SentMessage] = []
        """Whatever arrived here, each time; but once what a page sends again under its id as nobody confirmed it."""
        self.subscribed: set[tuple[str, str]] = set()
        """Phones with the chats whose typing they are told of."""
        self.modes: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        """By phone: `mib` of history that a new login has, `mode` that its stream takes instead of MAIN, `passkey` that
        is asked for, `lid`: chats have names of their own, `unregistered`: it shows its chats,
        but its phone does not know it, `unlinked`: the phone has ended it meanwhile."""
        self.loads = asyncio.Event()
        self.loads.set()
        self.takes = asyncio.Event()
        """Whether it answers to messages that are sent."""
        self.takes.set()
        self.html: str | None = None
        """Instead of the page: one that knows nothing of WhatsApp."""
        self.received: list[str] = []
        """Ids of incoming messages that a device has."""
        self.conflicts = 0
        self.connections: list[Connection] = []
        """In the order in which they began."""
        self._refuses = False
        self.browser = ""
        self._scans: list[tuple[str | None, str]] = []
        """Keys of pages (None: any), and phones that scan what they show."""
        self._scanning = asyncio.Condition()
        self._pairing: dict[str, tuple[str, str]] = {}
        self._devices: dict[str, Device] = {}
        self._media: dict[str, str] = {}
        self._waiting: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)

    async def scan(self, phone: str, code: str | None = None) -> None:
        """The page that shows this code is scanned; None: the next one that shows any."""
        await self._scan(code.split(",")[1] if code is not None else None, phone)

    def nobody_scans(self) -> None:
        """Takes back scans of pages that have not come."""
        self._scans.clear()

    async def type_in(self, pairing_code: str) -> None:
        key, phone = self._pairing.pop(pairing_code)
        await self._scan(key, phone)

    async def _scan(self, key: str | None, phone: str) -> None:
        async with self._scanning:
            self._scans.append((key, phone))
            self._scanning.notify_all()

    async def incoming(self, phone: str, sender: str, body: str, **more: str) -> str:
        """The id of the message; kept until a device of the phone has it. `more`: type, mimetype, filename, data in
        base64; author and name in a group."""
        message = {
            "id": f"IN{time.time_ns():016X}",
            "chat": sender,
            "body": body,
            "t": int(time.time()),
            **more,
        }
        self._media[message["id"]] = str(message.pop("data", ""))
        self._waiting[phone][message["id"]] = message
        self.tell(phone, "message", message)
        found = f"false_{sender}_{message['id']}"
        return f"{found}_{more['author']}" if "author" in more else found

    def tell(self, phone: str, what: str, data: object = None) -> None:
        """To the device that is connected: receipt {id, ack}, presence {chat, state}, logout {reason}, mode {mode},
        info {info}. unregistered: it shows its chats, but its phone does not know it. silent: it keeps what arrives to
        itself. hang: its page does not answer any more. conflict: another device of its phone has the connection."""
        device = self._devices.get(phone)
        if device is not None:
            device.queue.put_nowait({"what": what, "data": data})

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """No message is taken meanwhile, and no phone is paired by a code."""
        self._refuses = True
        try:
            yield
        finally:
            self._refuses = False

    def is_connected(self, phone: str) -> bool:
        return phone in self._devices

    def connected_since(self, phone: str) -> float | None:
        """When the device began that is connected now; None: none is."""
        return next((one.began for one in self.connections if one.phone == phone and one.ended == float("inf")), None)

    def overlaps(self) -> list[tuple[Connection, Connection]]:
        """Two of one phone at a time."""
        pairs = itertools.combinations(self.connections, 2)
        return [(one, two) for one, two in pairs if one.phone == two.phone and two.began < one.ended]

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/_standin/boot", self._boot, methods=["POST"]),
                Route("/_standin/scanned", self._scanned, methods=["POST"]),
                Route("/_standin/pairing", self._pair, methods=["POST"]),
                Route("/_standin/subscribed", self._subscribed, methods=["POST"]),
                Route("/_standin/media", self._media_of, methods=["POST"]),
                Route("/_standin/stream", self._stream),
                Route("/_standin/received", self._received, methods=["POST"]),
                Route("/_standin/sent", self._sent, methods=["POST"]),
                Route("/_standin/gone", self._gone, methods=["POST"]),
            ]
        )

    async def _page(self, _: Request) -> Response:
        await self.loads.wait()
        return HTMLResponse(self.html or PAGE.read_text())

    async def _boot(self, request: Request) -> Response:
        modes = self.modes[(await _json(request))["phone"]]
        answer = JSONResponse(modes)
        modes.pop("unlinked", None)
        return answer

    async def _pair(self, request: Request) -> Response:
        asked = await _json(request)
        if self._refuses:
            return JSONResponse({"error": "rate-overlimit"})
        code = secrets.token_hex(4).upper()
        self._pairing[code] = asked["key"], asked["phone"]
        return JSONResponse({"code": code})

    async def _subscribed(self, request: Request) -> Response:
        asked = await _json(request)
        self.subscribed.add((asked["phone"], asked["chat"]))
        return JSONResponse({})

    async def _media_of(self, request: Request) -> Response:
        return JSONResponse({"data": self._media.get((await _json(request))["id"])})

    async def _scanned(self, request: Request) -> Response:
        key = (await _json(request))["key"]

        def mine() -> tuple[str | None, str] | None:
            return next((scan for scan in self._scans if scan[0] in (None, key)), None)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL), self._scanning:
                await self._scanning.wait_for(mine)
                scan = mine()
                if scan is not None and not await request.is_disconnected():
                    self._scans.remove(scan)
                    return JSONResponse({"phone": scan[1]})
        return JSONResponse({"phone": None})

    async def _stream(self, request: Request) -> Response:
        phone = request.query_params["phone"]
        device = Device(request.query_params["device"])
        before = self._devices.get(phone)
        if before is not None:
            self.conflicts += 1
            before.queue.put_nowait({"what": "conflict", "data": None})
        self._devices[phone] = device
        for message in self._waiting[phone].values():
            device.queue.put_nowait({"what": "message", "data": message})

        async def lines() -> AsyncIterator[bytes]:
            connection = Connection(phone, device.key, time.monotonic())
            self.connections.append(connection)
            try:
                yield b": hello\n\n"
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            yield b"data: " + orjson.dumps(await device.queue.get()) + b"\n\n"
                    if await request.is_disconnected():
                        return
            finally:
                connection.ended = time.monotonic()
                if self._devices.get(phone) is device:
                    del self._devices[phone]

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _received(self, request: Request) -> Response:
        found = (await _json(request))["id"]
        self.received.append(found)
        for waiting in self._waiting.values():
            waiting.pop(found, None)
        return JSONResponse({})

    async def _sent(self, request: Request) -> Response:
        body = await _json(request)
        if self._refuses:
            return JSONResponse({"error": 463})
        await self.takes.wait()
        if not (body["again"] and any(one.id == body["id"] for one in self.sent)):
            more = {name: body.get(name) for name in ("type", "mimetype", "filename", "data")}
            self.sent.append(SentMessage(body["id"], body["phone"], body["chat"], body.get("body") or "", **more))
        return JSONResponse({})

    async def _gone(self, request: Request) -> Response:
        self._devices.pop((await _json(request))["phone"], None)
        return JSONResponse({})


async def _json(request: Request) -> Any:
    return orjson.loads(await request.body())


@asynccontextmanager
async def whatsapp(folder: Path) -> AsyncIterator[WhatsApp]:
    server = WhatsApp()
    cert, key = certify(folder, "whatsapp", host=HOST)
    config = uvicorn.Config(
        *(server.app(),),
        host="127.0.0.1",
        port=0,
        log_level="error",
        lifespan="off",
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    served = uvicorn.Server(config)
    running = asyncio.create_task(served.serve())
    while not served.started:
        await asyncio.sleep(0.02)
    port = served.servers[0].sockets[0].getsockname()[1]
    server.browser = str(_browser(folder, port))
    try:
        yield server
    finally:
        served.force_exit = served.should_exit = True
        await running


_WRAPPER = """#!/bin/sh
# What it is told not to resolve stays so; all else is this server.
for given; do case $given in --host-resolver-rules=*) rules="${{given#*=}}, ";; esac; done
exec {browser} "$@" --host-resolver-rules="${{rules}}MAP * 127.0.0.1:{port}" --ignore-certificate-errors
"""


def _browser(folder: Path, port: int) -> Path:
    """Chromium for which WhatsApp Web is this server, whatever else it is told."""
    browser = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "install a Chromium: sessions run in real browsers"
    path = folder / "chromium"
    path.write_text(_WRAPPER.format(browser=browser, port=port))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


__all__ = ["WhatsApp", "ssl", "whatsapp"]
