"""A program of the operator's, run without a shell: its arguments are as they are written, and JSON comes to it on
standard input, so nothing that a stranger wrote is ever an argument.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Sequence

from gateway.alerts.failed import SendFailed
from sluice.observe.printable import on_one_line
from sluice.process.ending import kill

_MAX_OUTPUT, _SHOWN = 64 * 1024, 200


async def run(command: Sequence[str], body: bytes, timeout: float) -> str:
    """What it said last, when it ended with 0. It and its children are ended after `timeout` seconds; what it says
    beyond 64 KiB ends it, too. Raises SendFailed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SendFailed(f"{command[0]} cannot be started ({why.lower()})") from None
    try:
        async with asyncio.timeout(timeout):
            said = await _talk(process, body)
            code = await process.wait()
    except TimeoutError:
        raise SendFailed(f"{command[0]} did not end within {timeout:g}s, and was ended") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await kill(process)
    last = on_one_line(said.decode("utf-8", "replace").strip().rpartition("\n")[2])[:_SHOWN]
    if code:
        ended = f"ended with {code}" if code > 0 else f"was ended by signal {-code}"
        raise SendFailed(f"{command[0]} {ended}{f': {last}' if last else ''}")
    return f"ended with 0{f': {last}' if last else ''}"


async def _talk(process: Process, body: bytes) -> bytes:
    """Gives it the body and takes what it says; too much of that is a failure."""
    assert process.stdin is not None
    assert process.stdout is not None
    giving = asyncio.ensure_future(_give(process.stdin, body))
    said = b""
    try:
        while piece := await process.stdout.read(8192):
            said += piece
            if len(said) > _MAX_OUTPUT:
                raise SendFailed("it said too much, and was ended")
        await giving
    finally:
        giving.cancel()
    return said


async def _give(to: asyncio.StreamWriter, body: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read it
        to.write(body)
        await to.drain()
        to.close()
