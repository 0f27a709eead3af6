"""`sluice status --watch`: the overview on the whole terminal, anew every two seconds, until one has seen enough."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from sluice.cli.errors import CommandError
from sluice.cli.screen import screen
from sluice.console.messages.wording import age
from sluice.observe.printable import on_one_line
from sluice.process.loops import Stop

EVERY = 2.0
"""Seconds from one look to the next."""
_ENDS = {b"q", b"Q", b"\x03", b"\x04"}
_MOVES = {
    b"\x1b[B": 1,
    b"j": 1,
    b"\x1b[A": -1,
    b"k": -1,
    b"\x1b[6~": 20,
    b" ": 20,
    b"\x1b[5~": -20,
    b"b": -20,
    b"\x1b[H": -(10**6),
    b"g": -(10**6),
    b"\x1b[F": 10**6,
    b"G": 10**6,
}
"""Lines by which a key moves what is shown."""


def check() -> None:
    """Raises CommandError where there is no terminal that can show it."""
    if not sys.stdout.isatty() or screen().is_dumb_terminal:
        raise CommandError("--watch needs a terminal; elsewhere sluice status shows it once, and --json for a program")


async def watch(ask: Callable[[], Awaitable[RenderableType]]) -> None:
    """Shows what `ask` answers until q, Ctrl-C, or the end of the terminal. What it has shown stays while it fails.

    Raises CommandError where the first question fails.
    """
    view, stop, console = View(await ask()), Stop(), screen()
    stop.on_signals()
    loop = asyncio.get_running_loop()
    with _keys(stop, view), _live(view, console) as live:

        def draw() -> None:
            live.refresh()

        view.changed = draw
        loop.add_signal_handler(signal.SIGWINCH, draw)
        try:
            draw()
            while await stop.sleep(EVERY):
                await _look(ask, view, stop)
                draw()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


def _live(view: View, console: Console) -> Live:
    return Live(view, console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)


async def _look(ask: Callable[[], Awaitable[RenderableType]], view: View, stop: Stop) -> None:
    """Ends early where it is stopped meanwhile: a gateway that hangs keeps nobody from leaving."""
    looking, stopping = asyncio.ensure_future(ask()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((looking, stopping), return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            view.show(looking.result())
    except CommandError as error:
        view.failed(str(error))
    finally:
        looking.cancel()
        stopping.cancel()


class View:
    """A part of what there is to see, as high as the terminal, and a last line about it."""

    def __init__(self, body: RenderableType) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._body = body
        self._seen_at = time.monotonic()
        self._trouble = ""
        self._top = 0
        self._most = 0

    def show(self, body: RenderableType) -> None:
        self._body, self._seen_at, self._trouble = body, time.monotonic(), ""

    def failed(self, why: str) -> None:
        self._trouble = why

    def move(self, lines: int) -> None:
        self._top = min(max(0, self._top + lines), self._most)
        self.changed()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = max(1, options.size.height - 1)
        body = self._body if not self._trouble else Group(self._banner(), Text(), self._body)
        lines = console.render_lines(body, options.update(height=None), pad=True)
        self._most = max(0, len(lines) - height)
        self._top = min(self._top, self._most)
        shown = lines[self._top : self._top + height]
        for line in shown:
            yield from line
            yield Segment.line()
        for _ in range(height - len(shown)):
            yield Segment.line()
        yield self._footer(len(lines), height)

    def _banner(self) -> Text:
        ago = age(time.monotonic() - self._seen_at)
        return Text(f"✗ {on_one_line(self._trouble)}; below is what was seen {ago} ago", "bold red")

    def _footer(self, lines: int, height: int) -> Text:
        text = f"{time.strftime('%H:%M:%S')}  every {EVERY:g} s  q ends"
        if self._most:
            text += f"  lines {self._top + 1} to {min(lines, self._top + height)} of {lines}: ↑ ↓ space b"
        return Text(text, "reverse", no_wrap=True, overflow="crop", end="")


@contextmanager
def _keys(stop: Stop, view: View) -> Iterator[None]:
    """Keys are read as they are pressed, and not shown, until the block is left. Without a keyboard Ctrl-C ends it."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    loop, before = asyncio.get_running_loop(), termios.tcgetattr(keyboard)

    def pressed() -> None:
        try:
            keys = os.read(keyboard, 64)
        except OSError:
            keys = b""
        if not keys or any(key in _ENDS for key in _split(keys)):
            loop.remove_reader(keyboard)
            stop.request()
            return
        moved = sum(_MOVES.get(key, 0) for key in _split(keys))
        if moved:
            view.move(moved)

    tty.setcbreak(keyboard, termios.TCSANOW)
    loop.add_reader(keyboard, pressed)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _split(keys: bytes) -> Sequence[bytes]:
    """Of what was typed at once the single keys; one that sends a sequence has it alone."""
    return [keys] if keys.startswith(b"\x1b") else [keys[i : i + 1] for i in range(len(keys))]
