"""`sluice status --watch` on a real pseudo-terminal: what it draws, how it ends, and what it leaves behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from starlette.applications import Starlette

from sessions.registry import Worker
from sluice.console import http as api
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from sluice.store.client import Store
from tests.sluice.cli.command import command, environment, sluice
from tests.sluice.cli.test_status import parts_of, policies_in, served
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ENTERS, LEAVES, CLEARS = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[2J"
HOSTILE = "http://127.0.0.1:3101/\x1b]0;owned\x07\x1b[31m"


class Terminal:
    """What a program writes to it, and keys that are pressed."""

    def __init__(self, keyboard: int, name: str, process: subprocess.Popen[bytes]) -> None:
        self._keyboard = keyboard
        self.name = name
        self.process = process
        self.written = b""
        os.set_blocking(keyboard, False)

    def read(self) -> bytes:
        with suppress(OSError):
            self.written += os.read(self._keyboard, 2**20)
        return self.written

    def press(self, keys: bytes) -> None:
        os.write(self._keyboard, keys)

    def resize(self, rows: int, columns: int) -> None:
        size(self._keyboard, rows, columns)

    def text(self) -> str:
        """Without the terminal's sequences; what is drawn anew from the first corner begins a line."""
        lines = self.read().replace(b"\x1b[H", b"\n")
        return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", lines).decode(errors="replace")

    async def shows(self, part: str, *, since: int = 0) -> None:
        await until(lambda: part in self.text()[since:], timeout=30, what=lambda: f"{part!r} in {self.text()!r}")

    async def ended(self) -> int:
        await until(lambda: (self.read(), self.process.poll() is not None)[1], timeout=20, what="its end")
        self.read()
        return self.process.returncode


def size(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def terminal(*arguments: object, rows: int = 40, columns: int = 100, term: str = "xterm") -> Iterator[Terminal]:
    master, slave = pty.openpty()
    size(slave, rows, columns)
    kept = {name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command(*arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**kept, "TERM": term, "TOKEN": "s3cret"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        yield Terminal(master, os.ttyname(slave), process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


@asynccontextmanager
async def gateway(store: Store, folder: Path) -> AsyncIterator[int]:
    parts = parts_of(store, policies_in(folder, 0))
    await parts.registry.register(Worker("w1", "1", HOSTILE, 25))
    values = [Value("sum", Series("requests", "", "2xx"), 4321)]
    await store.run_all([note("a", 1, 20.0, values)])
    async with served(Starlette(routes=api.routes(parts))) as port:
        policies_in(folder, port)
        yield port


@pytest.fixture
async def port(store: Store, tmp_path: Path) -> AsyncIterator[int]:
    async with gateway(store, tmp_path) as port:
        yield port


def asked(folder: Path) -> tuple[object, ...]:
    return "status", "--watch", "--policies", folder / "policies.yaml"


@pytest.mark.parametrize("key", [b"q", b"\x03", b"\x04"], ids=["q", "ctrl-c", "ctrl-d"])
async def test_it_shows_the_overview_until_a_key_ends_it_and_leaves_the_terminal_as_it_was(
    port: int, tmp_path: Path, key: bytes
) -> None:
    with terminal(*asked(tmp_path)) as shown:
        before = modes(shown)
        await shown.shows("q ends")
        for part in ("no relay is running", "laravel", "/\\x1b]0;owned\\x07\\x1b[31m", "the last hour", "4,321"):
            assert part in shown.text()
        assert modes(shown) != before, "keys are read as they are pressed"
        shown.press(key)
        assert await shown.ended() == 0
        assert modes(shown) == before
    assert (shown.written.count(ENTERS), shown.written.count(LEAVES)) == (1, 1)
    assert shown.written.rstrip().endswith(LEAVES)
    assert b"\x1b]0;" not in shown.written
    assert b"Traceback" not in shown.written


def modes(shown: Terminal) -> list[object]:
    opened = os.open(shown.name, os.O_RDWR | os.O_NOCTTY)
    try:
        return termios.tcgetattr(opened)[:4]
    finally:
        os.close(opened)


async def test_it_is_drawn_anew_without_clearing_so_it_does_not_flicker(
    port: int, store: Store, tmp_path: Path
) -> None:
    with terminal(*asked(tmp_path)) as shown:
        await shown.shows("q ends")
        parts = parts_of(store, policies_in(tmp_path, port))
        await parts.registry.register(Worker("newcomer", "1", "http://127.0.0.1:3102", 25))
        await shown.shows("newcomer")
        shown.press(b"q")
        assert await shown.ended() == 0
    drawn = shown.written.partition(ENTERS)[2]
    assert CLEARS not in drawn
    assert drawn.count(b"\x1b[H") >= 2


async def test_it_fits_a_terminal_that_is_resized_and_the_rest_is_reached_by_keys(port: int, tmp_path: Path) -> None:
    with terminal(*asked(tmp_path), rows=40, columns=100) as shown:
        await shown.shows("q ends")
        since = len(shown.text())
        shown.resize(8, 60)
        await shown.shows("lines 1 to 7 of", since=since)
        drawn = shown.text()[since:].replace("\r", "").split("\n")
        assert max(map(len, drawn)) <= 100
        since = len(shown.text())
        shown.press(b"jj")
        await shown.shows("lines 3 to 9 of", since=since)
        shown.press(b"\x1b[A")
        await shown.shows("lines 2 to 8 of", since=since)
        shown.press(b"G")
        await shown.shows("the last hour", since=since)
        shown.press(b"q")
        assert await shown.ended() == 0


async def test_a_gateway_that_goes_away_is_said_and_what_was_seen_stays(store: Store, tmp_path: Path) -> None:
    async with AsyncExitStack() as gateways:
        port = await gateways.enter_async_context(gateway(store, tmp_path))
        with terminal(*asked(tmp_path), columns=160) as shown:
            await shown.shows("q ends")
            since = len(shown.text())
            await gateways.aclose()
            await shown.shows(f"nothing answers on http://127.0.0.1:{port}", since=since)
            await shown.shows("below is what was seen", since=since)
            since = len(shown.text())
            await shown.shows("laravel", since=since)
            shown.press(b"q")
            assert await shown.ended() == 0
    with terminal(*asked(tmp_path)) as shown:
        assert await shown.ended() == 2
        assert f"nothing answers on http://127.0.0.1:{port}" in shown.text()
    assert ENTERS not in shown.written


async def test_a_hang_up_or_a_kill_leaves_no_terminal_behind_that_nobody_can_use(port: int, tmp_path: Path) -> None:
    with terminal(*asked(tmp_path)) as shown:
        before = modes(shown)
        await shown.shows("q ends")
        shown.process.send_signal(signal.SIGTERM)
        assert await shown.ended() == 0
        assert modes(shown) == before
    assert shown.written.count(LEAVES) == 1


async def test_another_gateway_is_watched_as_well(port: int, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    remote = ("--gateway", f"http://127.0.0.1:{port}", "--token-file", tmp_path / "token")
    with terminal("status", "--watch", *remote) as shown:
        await shown.shows("q ends")
        shown.press(b"q")
        assert await shown.ended() == 0


def test_without_a_terminal_it_says_so(tmp_path: Path) -> None:
    said = "sluice: --watch needs a terminal; elsewhere sluice status shows it once, and --json for a program\n"
    policies_in(tmp_path, 1)
    ran = sluice(*asked(tmp_path))
    assert (ran.code, ran.out, ran.err) == (2, "", said)
    ran = sluice(*asked(tmp_path), "--json")
    assert (ran.code, ran.err) == (
        2,
        "sluice: --watch and --json exclude each other: look at it, or let a program read it\n",
    )


async def test_a_terminal_that_knows_no_sequences_is_none(tmp_path: Path) -> None:
    policies_in(tmp_path, 1)
    with terminal(*asked(tmp_path), term="dumb") as shown:
        assert await shown.ended() == 2
        assert "--watch needs a terminal" in shown.text()
