"""Browsers of a fleet: people who scan their codes, and a judge that sees when two of one session run at a time.

The judge looks at the machine's processes, so it also sees browsers that are not logged in, and whose worker is frozen
or gone. What WhatsApp's side sees, two connections of one phone at a time, is looked at in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from sessions.profiles.names import folder_of
from sessions.worker.browser.logins import FOLDER
from tests.nemesis.fleet import KEY, Fleet
from tests.nemesis.history import History
from tests.whatsapp.server import WhatsApp

_LOOKS_EVERY, _ASKS_EVERY = 0.1, 0.5
Process = tuple[int, bytes]
"""Its number, and when it was started, as numbers are given anew."""


class Judge:
    """`folders`: worker → its data. Notes `browser` for each that is opened, and `double` for two of one session."""

    def __init__(self, history: History, folders: Mapping[str, Path], sessions: Sequence[str]) -> None:
        self._history = history
        self._owners = {
            os.fsencode(f"--user-data-dir={folder / FOLDER / folder_of(session)}"): (session, worker)
            for worker, folder in folders.items()
            for session in sessions
        }
        self._known: dict[Process, tuple[str, str] | None] = {}
        self.doubles: set[tuple[str, tuple[str, ...]]] = set()

    async def watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_LOOKS_EVERY)

    def _look(self) -> None:
        running: defaultdict[str, dict[str, list[Process]]] = defaultdict(lambda: defaultdict(list))
        there = {process for name in os.listdir("/proc") if name.isdigit() and (process := _running(int(name)))}
        self._known = {process: about for process, about in self._known.items() if process in there}
        for process in there:
            about = self._about(process)
            if about is not None:
                running[about[0]][about[1]].append(process)
        for session, by_worker in running.items():
            # Those that still run were there while each of the others was seen.
            still = sorted(worker for worker, its in by_worker.items() if any(_running(one[0]) == one for one in its))
            if len(still) > 1 and (session, (*still,)) not in self.doubles:
                self.doubles.add((session, (*still,)))
                self._history.note("double", session=session, workers=still)

    def _about(self, process: Process) -> tuple[str, str] | None:
        if process not in self._known:
            arguments: list[bytes] = []
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{process[0]}/cmdline").read_bytes().split(b"\0")
            found = next((self._owners[one] for one in arguments if one in self._owners), None)
            if found is None and arguments[:1] not in ([], [b""]) and not _may_become_one(arguments):
                self._known[process] = None
            elif found is not None:
                self._known[process] = found
                if not any(one.startswith(b"--type=") for one in arguments):
                    self._history.note("browser", session=found[0], worker=found[1], pid=process[0])
        return self._known.get(process)


def _may_become_one(arguments: Sequence[bytes]) -> bool:
    """It was forked and runs something else in a moment."""
    return any(b"playwright" in one or b"browser_worker" in one for one in arguments)


def _running(pid: int) -> Process | None:
    with contextlib.suppress(OSError):
        values = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        if values[0] not in (b"Z", b"X"):
            return pid, values[19]
    return None


async def scan(fleet: Fleet, phones: WhatsApp, sessions: Sequence[str]) -> None:
    """Whoever has a phone scans the code that its session shows, as often as it shows one."""
    seen: set[str] = set()
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        while True:
            for session in sessions:
                with contextlib.suppress(httpx2.HTTPError):
                    path = f"{fleet.gateways[0]}/api/sessions/{session}/qr"
                    answer = await client.get(path, params={"api_key": KEY, "format": "raw"})
                    if answer.is_success and answer.text.count(",") == 3 and answer.text not in seen:
                        seen.add(answer.text)
                        await phones.scan(phone_of(session), answer.text)
            await asyncio.sleep(_ASKS_EVERY)


def phone_of(session: str) -> str:
    return f"62899{int(session.rpartition('-')[2]):05}"


@asynccontextmanager
async def used(fleet: Fleet, sessions: Sequence[str]) -> AsyncIterator[None]:
    """Their codes are scanned and their browsers watched meanwhile; afterwards what WhatsApp saw is noted."""
    server = fleet.whatsapp
    if server is None:
        yield
        return
    judge = Judge(fleet.history, fleet.disks, sessions)
    tasks = [asyncio.create_task(judge.watch()), asyncio.create_task(scan(fleet, server, sessions))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for one in ended:
        if isinstance(one, Exception):
            raise one
    for connection in server.connections:
        fleet.history.note("connected", at=connection.began, phone=connection.phone)
    for older, newer in server.overlaps():
        about = [f"{one.device[:8]} of {one.began:.1f} to {one.ended:.1f} s" for one in (older, newer)]
        fleet.history.note("double", at=newer.began, session=older.phone, workers=about)
