"""WhatsApp, as far as it matters here: who runs which session and who is logged in, at which moments.

Every worker keeps one connection to it; what a worker does is written down under the machine's monotonic clock, and
when the connection ends, its browsers have ended too. A device (what lies in a profile) that logs in a second time
throws the older browser out. It is the judge of "no session ever runs twice".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]


@dataclass(slots=True)
class Browser:
    """`profile` is its folder. Moments by `time.monotonic`."""

    id: str
    worker: str
    pid: int
    session: str
    profile: str
    opened: float
    closed: float | None = None
    device: str | None = None
    logged_in: float | None = None
    thrown_out: float | None = None

    def until(self) -> float:
        return self.closed if self.closed is not None else float("inf")


@dataclass(frozen=True, slots=True)
class Twice:
    """A session that two browsers ran at the same time, from the moment `at`."""

    session: str
    older: str
    newer: str
    at: float
    same_profile: bool

    def __str__(self) -> str:
        where = "on one profile" if self.same_profile else "on two profiles"
        return f"{self.session}: a browser at {self.newer} beside the one at {self.older}, {where}"


@dataclass(slots=True)
class Emitted:
    """A webhook. `outcome`: how its last attempt ended; None: it has not, or its worker died meanwhile."""

    worker: str
    event: str
    session: str
    id: str | None
    at: float
    outcome: str | None = None


@dataclass(slots=True)
class Sent:
    worker: str
    session: str
    to: str
    message: str
    id: str
    at: float


@dataclass(slots=True)
class WhatsApp:
    port: int
    browsers: dict[str, Browser] = field(default_factory=dict)
    emitted: dict[tuple[int, int], Emitted] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    """Of browsers, by session."""
    double_logins: list[Twice] = field(default_factory=list)
    """One device, logged in by two browsers: what throws a session out."""
    _lines: dict[int, asyncio.StreamWriter] = field(default_factory=dict)

    def running(self, session: str) -> list[Browser]:
        """Its browsers that are open now."""
        return [one for one in self.browsers.values() if one.session == session and one.closed is None]

    def connected(self, session: str, at: float | None = None) -> list[Browser]:
        """Its browsers that are, or were at that moment, logged in."""
        moment = time.monotonic() if at is None else at
        return [one for one in self._of(session) if _logged_in(one, moment)]

    def open_at(self, session: str, at: float) -> list[Browser]:
        return [one for one in self._of(session) if one.opened <= at < one.until()]

    def ran_twice(self) -> list[Twice]:
        """Every time that a browser of a session was opened while another one of it was open."""
        found = []
        by_session: dict[str, list[Browser]] = defaultdict(list)
        for one in sorted(self.browsers.values(), key=lambda browser: browser.opened):
            for other in by_session[one.session]:
                if other.until() > one.opened:
                    same = other.profile == one.profile
                    found.append(Twice(one.session, other.worker, one.worker, one.opened, same))
            by_session[one.session].append(one)
        return found

    def scan(self, session: str, phone: str) -> None:
        """A person scans the QR code that the youngest browser of the session shows."""
        browser = max(self.running(session), key=lambda one: one.opened)
        self._tell(browser.pid, {"scan": browser.id, "phone": phone})

    def throw_out(self, session: str, reason: str) -> None:
        """`LOGOUT` on the phone, or a technical reason such as `NAVIGATION`."""
        for browser in self.connected(session):
            self._throw_out(browser, reason, time.monotonic())

    def gone(self, pid: int, at: float) -> None:
        """The process has ended at that moment, and with it its browsers."""
        self._lines.pop(pid, None)
        for browser in self.browsers.values():
            if browser.pid == pid and browser.until() > at:
                browser.closed = at

    # --- what workers say

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker, from its start to its end."""
        pid = 0
        try:
            async for text in reader:
                line = json.loads(text)
                pid = line["pid"]
                self._lines[pid] = writer
                getattr(self, f"_{line['do']}")(line)
        except (OSError, json.JSONDecodeError, ValueError):
            pass  # cut by a kill
        finally:
            self.gone(pid, time.monotonic())
            writer.close()

    def _boot(self, line: Line) -> None:
        """Nothing runs there yet."""

    def _open(self, line: Line) -> None:
        self.starts[line["session"]] += 1
        self.browsers[line["browser"]] = Browser(
            line["browser"], line["worker"], line["pid"], line["session"], line["profile"], line["at"]
        )

    def _login(self, line: Line) -> None:
        browser = self.browsers[line["browser"]]
        browser.device, browser.logged_in = line["device"], line["at"]
        for other in list(self.browsers.values()):
            if other.device == browser.device and other is not browser and _logged_in(other, line["at"]):
                twice = Twice(
                    browser.session, other.worker, browser.worker, line["at"], other.profile == browser.profile
                )
                self.double_logins.append(twice)
                self._throw_out(other, "CONFLICT", line["at"])

    def _close(self, line: Line) -> None:
        self.browsers[line["browser"]].closed = line["at"]

    def _emit(self, line: Line) -> None:
        emitted = Emitted(line["worker"], line["event"], line["session"], line["id"], line["at"])
        self.emitted[line["pid"], line["number"]] = emitted

    def _outcome(self, line: Line) -> None:
        self.emitted[line["pid"], line["number"]].outcome = line["outcome"]

    def _sent(self, line: Line) -> None:
        self.sent.append(Sent(line["worker"], line["session"], line["to"], line["message"], line["id"], line["at"]))

    def _throw_out(self, browser: Browser, reason: str, at: float) -> None:
        browser.thrown_out = at
        self._tell(browser.pid, {"out": browser.id, "reason": reason})

    def _tell(self, pid: int, line: Line) -> None:
        writer = self._lines.get(pid)
        if writer is not None and not writer.is_closing():
            writer.write(json.dumps(line).encode() + b"\n")

    def _of(self, session: str) -> Iterator[Browser]:
        return (one for one in list(self.browsers.values()) if one.session == session)


def _logged_in(browser: Browser, at: float) -> bool:
    out = browser.thrown_out if browser.thrown_out is not None else float("inf")
    return browser.logged_in is not None and browser.logged_in <= at < min(browser.until(), out)


@asynccontextmanager
async def whatsapp() -> AsyncIterator[WhatsApp]:
    """On a port of its own, which the kernel gives."""
    watching = WhatsApp(0)
    tasks: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await watching.take(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(take, "127.0.0.1", 0, limit=1 << 20)
    watching.port = server.sockets[0].getsockname()[1]
    try:
        yield watching
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Watched:
    """A worker's side of its connection. Without a port nobody watches it."""

    def __init__(self, worker: str, pid: int) -> None:
        self._about = {"worker": worker, "pid": pid}
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self.say("boot")

    def say(self, do: str, **what: Any) -> None:
        if self._writer is not None:
            line = {"do": do, "at": time.monotonic(), **self._about, **what}
            self._writer.write(json.dumps(line).encode() + b"\n")

    async def heard(self) -> AsyncIterator[Line]:
        """What it is told, until the connection ends."""
        if self._reader is not None:
            with contextlib.suppress(OSError):
                async for text in self._reader:
                    yield json.loads(text)
