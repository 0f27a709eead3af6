"""Child processes: started in order, started again when they die, stopped in reverse order; those `beside` at once.

A child that dies is started again after a wait that doubles with each quick death; its last lines are shown. Children
are in sessions of their own, so that Ctrl-C in the terminal reaches only us, and we decide the order. They hold our
end of a pipe as their standard input: when we are killed they read its end, and stop by themselves. Others may be added
while these run, and removed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sluice.observe.processes import RESTARTS
from sluice.process.loops import Stop

_FIRST_WAIT, _MAX_WAIT = 0.25, 10.0
_LONG_ENOUGH = 5.0
"""Seconds up after which a death is no longer a quick one. A process that ends each few seconds, as one that has too
little memory may, is better started again at once than missing for longer than senders repeat what they send (14 s)."""
_LAST_LINES = 12
_STOPPED_WITHIN = 40.0

Say = Callable[[str], None]


async def _at_once() -> None:
    return


@dataclass(frozen=True, slots=True)
class Program:
    """`ready` returns once the child does its work; what comes after it in order starts then.

    `beside`: started and stopped together with the program before it. `inherits`: open files that it gets from us, by
    their numbers. `logs_to_stdout`: its standard output is ours, and only its standard error is read.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], Awaitable[None]] = _at_once
    ended: Callable[[int], None] = lambda pid: None
    beside: bool = False
    inherits: tuple[int, ...] = ()
    logs_to_stdout: bool = False


class Supervisor:
    """Runs programs; `say` shows a person what happens to them."""

    def __init__(self, programs: Sequence[Program], say: Say) -> None:
        self._steps: list[list[_Child]] = []
        for program in programs:
            if not (program.beside and self._steps):
                self._steps.append([])
            self._steps[-1].append(_Child(program, say))
        self._say = say
        self._added: dict[str, _Child] = {}

    async def start(self) -> None:
        """One after the other, each once the one before is ready. Raises whatever a `ready` raises."""
        for step in self._steps:
            for child in step:
                child.start()
            for child in step:
                await child.program.ready()

    async def stop(self) -> None:
        """Those that were added, then the others in reverse order, each given time to finish what it is doing."""
        await asyncio.gather(*(child.end() for child in self._added.values()))
        for step in reversed(self._steps):
            await asyncio.gather(*(child.end() for child in step))

    def add(self, program: Program) -> None:
        """Starts one more, by a name that no other has, until it is removed or all are stopped."""
        self._added[program.name] = child = _Child(program, self._say)
        child.start()

    async def remove(self, name: str) -> None:
        """Stops one that was added, and gives it time to finish what it is doing."""
        await self._added[name].end()
        del self._added[name]

    def kill(self) -> None:
        """All that still run, at once, with what they have started. Nothing that was accepted is lost by it."""
        for child in (*self._added.values(), *(child for step in self._steps for child in step)):
            child.kill()


class _Child:
    def __init__(self, program: Program, say: Say) -> None:
        self.program = program
        self._say = say
        self._stop = Stop()
        self._restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watch = asyncio.create_task(self._keep_running())

    async def end(self) -> None:
        self._stop.request()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        if self._watch is None:
            return
        try:
            async with asyncio.timeout(_STOPPED_WITHIN):
                await asyncio.shield(self._watch)
        except TimeoutError:
            self._say(f"{self.program.name} does not stop within {_STOPPED_WITHIN:g}s and is killed")
            self.kill()
            await self._watch

    def kill(self) -> None:
        self._stop.request()
        if self._process is not None and self._watch is not None and not self._watch.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with what it started: that may hold its output open

    async def _keep_running(self) -> None:
        wait, shown = _FIRST_WAIT, list[str]()
        while not self._stop.requested:
            started = time.monotonic()
            how, lines = await self._run_once()
            if self._stop.requested:
                return
            if time.monotonic() - started > _LONG_ENOUGH:
                wait = _FIRST_WAIT
            self._say(f"{self.program.name} {how}; it is started again in {wait:g}s")
            for line in ("the same last lines as before",) if lines and lines == shown else lines:
                self._say(f"  {self.program.name}: {line}")
            shown = lines
            self._restarts += 1
            await self._stop.sleep(wait)
            wait = min(wait * 2, _MAX_WAIT)

    async def _run_once(self) -> tuple[str, list[str]]:
        """How it ended, and its last lines."""
        apart = self.program.logs_to_stdout
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=None if apart else asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE if apart else asyncio.subprocess.STDOUT,
                env={**os.environ, "SLUICE_SUPERVISED": "1", RESTARTS: str(self._restarts), **self.program.environment},
                start_new_session=True,
                pass_fds=self.program.inherits,
            )
        except OSError as error:
            return f"cannot be started ({error})", []
        if self._stop.requested:
            process.terminate()
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            read = process.stderr if apart else process.stdout
            assert read is not None
            async for line in _lines(read):
                lines.append(line.decode("utf-8", "replace").rstrip()[:500])
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            self.program.ended(process.pid)
        return _how(code), list(lines)


async def _lines(output: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Read to the end, whatever comes: a child whose output nobody reads would stand still."""
    while True:
        try:
            line = await output.readline()
        except ValueError:  # a line beyond all bounds; it was dropped
            continue
        if not line:
            return
        yield line


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
