"""The application of examples/laravel on a real Laravel, served by PHP on a port of this machine.

async with real_laravel(port, gateway, folder) as app:
    app.add("s1", 1, status="connected")
    await app.send("s1", to="4915123456", message="hello")
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.contract.running import SECRET
from tests.waiting import until

APPLICATION = Path(__file__).parent.parent.parent / "examples" / "laravel"
PACKAGES = ("php-cli", "php-laravel-framework", "php-guzzlehttp-guzzle", "php-sqlite3", "php-curl", "php-xml")
_NEEDED = """
$modules = ['curl', 'dom', 'mbstring', 'pcntl', 'pdo_sqlite'];
echo implode(' ', array_filter($modules, fn ($module) => !extension_loaded($module))), ' ';
$files = ['Illuminate/autoload.php', 'GuzzleHttp/autoload.php'];
echo implode(' ', array_filter($files, fn ($file) => !stream_resolve_include_path($file)));
"""


def missing() -> str:
    """What a real Laravel needs and this machine has not; empty: all is there."""
    try:
        found = subprocess.run(["php", "-r", _NEEDED], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return "php"
    return found.stdout.strip()


class RealLaravel:
    """Several processes of PHP serve it. Its tables are read and filled past it, as a person would in the database."""

    def __init__(self, port: int, gateway: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.storage = folder / "laravel"
        self._settings = {
            **os.environ,
            "APP_STORAGE": str(self.storage),
            "DB_DATABASE": str(self.storage / "database.sqlite"),
            "PHP_CLI_SERVER_WORKERS": "4",
            "WHATSAPP_HMAC_SECRET": SECRET,
            "WHATSAPP_NODEJS_URL": gateway,
            "WHATSAPP_INSTANCE_1": gateway,
            **settings,
        }
        self._server: asyncio.subprocess.Process | None = None
        self._queues: list[asyncio.subprocess.Process] = []
        self._http = httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=120.0)

    async def start(self) -> None:
        """Returns once it listens. The database is made at the first start."""
        if not self.storage.exists():
            self.storage.mkdir()
            (self.storage / "database.sqlite").touch()
            await self.artisan("migrate", "--force")
        serve = ("-d", "log_errors=1", "-S", f"127.0.0.1:{self.port}", "-t", "public", "public/index.php")
        self._server = await self._run(*serve)
        await until(self._listens, timeout=60, what=lambda: f"Laravel; it said:\n{self.said()}")

    async def artisan(self, *arguments: str) -> None:
        """A command that ends by itself."""
        command = await self._run("artisan", *arguments)
        async with asyncio.timeout(120):
            assert await command.wait() == 0, self.said()

    async def stop(self) -> None:
        if self._server is not None:
            await _end(self._server)
            self._server = None

    async def start_queues(self, number: int = 4) -> None:
        """The workers of supervisor/queues.conf."""
        for one in range(number):
            queues = f"--queue=whatsapp-urgent-{one},messaging-{one},bulk-{one}"
            self._queues.append(await self._run("artisan", "queue:work", queues, "--tries=3", "--sleep=0.2"))

    async def close(self) -> None:
        for one in self._queues:
            await _end(one)
        await self.stop()
        await self._http.aclose()

    def said(self) -> str:
        return "\n".join(file.read_text(errors="replace")[-4000:] for file in self._logs() if file.exists())

    def log(self) -> str:
        """All that the application has logged."""
        file = self._logs()[1]
        return file.read_text(errors="replace") if file.exists() else ""

    def _logs(self) -> tuple[Path, Path]:
        """Of the server, and of the application."""
        return self.storage.parent / "laravel.log", self.storage / "logs" / "laravel.log"

    async def ask(self, method: str, path: str, **how: Any) -> httpx2.Response:
        return await self._http.request(method, path, **how)

    async def send(self, session: str, *, to: str, message: str) -> dict[str, Any]:
        """It calls a worker: the `status` and `value` of the answer."""
        answer = await self.ask("POST", "/api/chats/send", json={"session_id": session, "to": to, "message": message})
        assert answer.status_code == 200, f"{answer.status_code}: {self.said()}"
        said: dict[str, Any] = answer.json()
        return said

    async def check(self, session: str) -> dict[str, Any]:
        """The health check: what the worker's status answered."""
        answer = await self.ask("POST", f"/api/accounts/{session}/check")
        assert answer.status_code == 200, f"{answer.status_code}: {self.said()}"
        said: dict[str, Any] = answer.json()
        return said

    def add(self, session: str, workspace: int, **fields: Any) -> None:
        """A row of an account."""
        row = {"session_id": session, "workspace_id": workspace, "status": "qr_scanning", **fields}
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._database() as database:
            database.execute(f"INSERT INTO whatsapp_accounts ({names}) VALUES ({marks})", tuple(row.values()))

    def change(self, session: str, **fields: Any) -> None:
        """Of the row of an account."""
        changes = ", ".join(f"{name} = ?" for name in fields)
        with self._database() as database:
            database.execute(
                f"UPDATE whatsapp_accounts SET {changes} WHERE session_id = ?", (*fields.values(), session)
            )

    def accounts(self) -> dict[str, dict[str, Any]]:
        """Every row, soft-deleted ones too, by session."""
        return {row["session_id"]: row for row in self.rows("SELECT * FROM whatsapp_accounts")}

    def messages(self, event: str = "message_received") -> list[dict[str, Any]]:
        """In the order in which they were saved."""
        return self.rows("SELECT * FROM messages WHERE event = ? ORDER BY id", event)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self._database() as database:
            return [dict(row) for row in database.execute(query, values)]

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.storage / "database.sqlite", timeout=60)) as database, database:
            database.row_factory = sqlite3.Row
            yield database

    async def _run(self, *arguments: str) -> asyncio.subprocess.Process:
        """In a process group of its own, as the server's workers do not end with it."""
        with (self.storage.parent / "laravel.log").open("ab") as output:
            return await asyncio.create_subprocess_exec(
                "php",
                *arguments,
                cwd=APPLICATION,
                env=self._settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def _listens(self) -> bool:
        assert self._server is not None
        assert self._server.returncode is None, f"Laravel has ended:\n{self.said()}"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


@asynccontextmanager
async def real_laravel(port: int, gateway: str, folder: Path, **settings: str) -> AsyncIterator[RealLaravel]:
    """`settings`: more of its environment, such as QUEUE_CONNECTION."""
    lacks = missing()
    assert not lacks, f"no real Laravel without {lacks}: apt-get install {' '.join(PACKAGES)}"
    app = RealLaravel(port, gateway, folder, settings)
    try:
        await app.start()
        yield app
    finally:
        await app.close()
