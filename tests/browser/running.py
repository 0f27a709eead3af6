"""Real browsers on a page that stands in for WhatsApp Web: Chromium alone, and whatsapp-web.js with its own LocalAuth
and RemoteAuth. Nothing goes to a network.

    await make(profile)                         a login, closed properly
    assert await found(profile) == WHOLE        what of it is there when it is opened again
    async with chromium(profile) as browser:    runs meanwhile
    async with client(folder, "LocalAuth", clientId="s1") as worker:

The page is that of tests/e2e/whatsapp_web with login.js; whoever logs in there has four IndexedDB databases, a Blob, a
key that cannot be exported and what it encrypted, localStorage, and a cookie.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.e2e.node_worker import PAGE, installed
from tests.waiting import until

HERE = Path(__file__).parent
FOLDER_STORE = str(HERE / "folder_store.mjs")
PHONE = "628120000001"
"""Who scans the code that a client shows, three seconds after that."""
WHOLE = dict.fromkeys(("databases", "registered", "rows", "blob", "key", "local_storage", "cookies"), True)
"""What `found` tells of a whole login."""
BY_REMOTE_AUTH = {**WHOLE, "cookies": False}
"""RemoteAuth keeps no cookies."""
_WITHIN = 120.0


class Said:
    """A process that is told a JSON line and answers with one; it tells of events between them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        """All so far."""
        self.noise: deque[str] = deque(maxlen=50)
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._readers = [asyncio.create_task(self._read()), asyncio.create_task(self._read_noise())]

    async def event(self, name: str, *, after: int = 0, within: float = _WITHIN) -> dict[str, Any]:
        """The first one of this name among those from number `after` on."""

        def there() -> dict[str, Any] | None:
            return next((one for one in self.events[after:] if one["event"] == name), None)

        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: there() is not None or self._ended())
        except TimeoutError:
            raise AssertionError(f"no {name} within {within:g} s: {self._all()}") from None
        found = there()
        assert found is not None, f"it ended before {name}: {self._all()}"
        return found

    async def ask(self, *line: Any) -> Any:
        """Raises AssertionError for {error}."""
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(line) + b"\n")
        async with asyncio.timeout(_WITHIN):
            answer = await self._answers.get()
        assert "error" not in answer, f"{line[0]}: {answer.get('error')}"
        return answer["answer"]

    def had(self, event: str) -> bool:
        return any(one["event"] == event for one in self.events)

    async def close(self) -> None:
        """As a worker stops properly: its browser is closed, and has written all it had."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(60):
                await self.process.wait()
        except TimeoutError:
            await self.kill()
        await asyncio.gather(*self._readers)

    async def kill(self) -> None:
        """`kill -9` of it and of all that it started."""
        if self.process.returncode is None:
            for pid in [*descendants(self.process.pid), self.process.pid]:
                _kill(pid)
        await self.process.wait()
        await asyncio.gather(*self._readers)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if not line.startswith(b"{"):
                self.noise.append(line.decode(errors="replace"))
                continue
            told = orjson.loads(line)
            if "event" in told:
                self.events.append(told)
            else:
                self._answers.put_nowait(told)
            async with self._changed:
                self._changed.notify_all()
        self._answers.put_nowait({"error": f"it ended: {self._all()}"})
        async with self._changed:
            self._changed.notify_all()

    async def _read_noise(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.noise.append(line.decode(errors="replace"))

    def _ended(self) -> bool:
        return self._readers[0].done() or self.process.returncode is not None

    def _all(self) -> str:
        return f"{self.events} {''.join(self.noise)}"


class Browser(Said):
    pid = 0
    """Of Chromium's first process."""

    async def login(self, function: str, *args: Any) -> Any:
        """A function of login.js: fill(phone), grow(MiB), keepWriting(), rest(), rounds(), found()."""
        return await self.ask(function, *args)


class Client(Said):
    async def login(self, function: str, *args: Any) -> Any:
        return await self.ask("login", function, *args)


async def make(profile: Path, *, size: int = 0, flags: Sequence[str] = ()) -> Path:
    """A login with `size` MiB beside what it needs; its browser was closed."""
    async with chromium(profile, flags) as browser:
        await browser.login("fill", PHONE)
        await browser.login("grow", size)
    return profile


async def found(profile: Path, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Each part of the login: true, false, or what went wrong. The profile is opened, and so changed."""
    async with chromium(profile, flags) as browser:
        told: dict[str, Any] = await browser.login("found")
        return told


@asynccontextmanager
async def chromium(profile: Path, flags: Sequence[str] = ()) -> AsyncIterator[Browser]:
    """Chromium on this profile, at the page. It is closed properly at the end, unless it was killed."""
    environment = {"PROFILE": str(profile), "BROWSER": executable(), "FLAGS": orjson.dumps(list(flags)).decode()}
    with tempfile.TemporaryDirectory() as page:
        process = await _start("chromium.js", {**environment, "PAGE": str(page_in(Path(page)))})
        browser = Browser(process)
        try:
            ready = await browser._answers.get()
            assert "pid" in ready, ready
            browser.pid = ready["pid"]
            yield browser
        except BaseException:
            await browser.kill()
            raise
        await browser.close()


@asynccontextmanager
async def client(
    data: Path, kind: str, *, store: tuple[str, str, Mapping[str, Any]] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A Client that starts with this strategy in folder `data`. `options`: the strategy's own, such as clientId.
    `store`: of RemoteAuth, its module, class, and options; `onProblem` is added to them, and makes events `problem`.

    Events: qr, authenticated, ready, started (the call of initialize ended; with `pid`), failed, remote_session_saved,
    disconnected, problem. Functions for `ask`: save, destroy, logout, reload, and `login` as of a browser.
    """
    auth: dict[str, Any] = {"kind": kind, "dataPath": str(data), **options}
    if kind == "RemoteAuth":
        auth.setdefault("backupSyncIntervalMs", 60_000)
    with tempfile.TemporaryDirectory() as page:
        page_in(Path(page))
        puppeteer = {"pipe": True, "executablePath": executable(), "args": ["--no-sandbox"], "timeout": 120_000}
        settings = {
            "puppeteer": {**puppeteer, "protocolTimeout": 240_000},
            "authTimeoutMs": 120_000,
            "webVersion": "page",
            "webVersionCache": {"type": "local", "path": page, "strict": True},
        }
        variables = {"AUTH": auth, "STORE": store, "CLIENT": settings}
        process = await _start("client.js", {name: orjson.dumps(value).decode() for name, value in variables.items()})
        worker = Client(process)
        try:
            yield worker
        except BaseException:
            await worker.kill()
            raise
        await worker.close()


async def flushed(profile: Path) -> None:
    """The browser has written localStorage, as it does within some seconds; it writes IndexedDB at once, and cookies
    after 20 to 35 s."""

    def there() -> bool:
        logs = (profile / "Default/Local Storage/leveldb").glob("*.log")
        return any(b"WANoiseInfo" in log.read_bytes() for log in logs)

    await until(there, timeout=60, what="localStorage to be written")


def executable() -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "install a Chromium: logins of real browsers are kept"
    return browser


def page_in(folder: Path) -> Path:
    """The page as a file there, `page.html`."""
    path = folder / "page.html"
    text, login = (PAGE / "page.html").read_text(), (HERE / "login.js").read_text()
    path.write_text(text.replace("</body>", f"<script>{login}</script></body>"))
    return path


def descendants(pid: int) -> list[int]:
    """Of a process, at this moment; the children of a child come before it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except OSError:
        return []
    return [below for child in children for below in (*descendants(child), child)]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


async def _start(script: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    modules = await installed() / "node_modules"
    return await asyncio.create_subprocess_exec(
        *("node", str(HERE / script)),
        env={**os.environ, **environment, "NODE_PATH": str(modules)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )
