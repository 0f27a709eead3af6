"""A browser that stands still for a moment, all of its processes, so that its files are of one moment.

It goes on whatever happens: when the work is done or fails, when it takes too long, and when we are killed meanwhile
(`pause_guard`, a process in a session of its own, which is started before anything is paused). Only with both killed
at the same moment it would stand still; the next snapshot says so, with the command that lets it go on. Linux alone has
what this needs: /proc and pidfds, by which no process is taken for another one that got its number.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sessions.profiles.errors import ProfileError
from sluice.process.descendants import descendants

LIMIT = 0.25
"""Seconds that a browser stands still at most. WhatsApp Web and its server wait for each other for much longer."""
_GUARD = Path(__file__).with_name("pause_guard.py")
_GUARD_STARTS = 10.0
_LOOKED = 0.001


class NotPaused(ProfileError):
    """The browser could not be paused; it runs."""


class TooSlow(NotPaused):
    """It stood still for `LIMIT`, and not all was done. Later there may be less to do."""


class Pause:
    """Of the process `root`, and of all below it."""

    def __init__(self, root: int, limit: float) -> None:
        self._root = root
        self._limit = limit
        self._processes: dict[int, int] = {}
        """A pidfd of each."""
        self._began = self._ended = 0.0

    @property
    def seconds(self) -> float:
        """For which it stood still."""
        return self._ended - self._began

    def check(self) -> None:
        """Raises TooSlow when its time is over."""
        if time.monotonic() - self._began > self._limit:
            raise TooSlow(
                f"the browser of process {self._root} had to stand still for over {self._limit * 1000:.0f} ms, and "
                "goes on: the machine is busy, or there is much to copy. Stop the session, and it is saved at once"
            )

    def stop(self, guard: int) -> None:
        """Returns when none of them does anything any more, and none is new. Raises NotPaused."""
        self._began = time.monotonic()
        self._stop(self._root, guard)
        while True:
            stopped = all(_stands(pid) for pid in self._processes)
            new = [pid for pid in descendants(self._root) if pid not in self._processes]
            for pid in new:
                self._stop(pid, guard)
            if stopped and not new:
                return
            self.check()
            time.sleep(_LOOKED)

    def verify(self) -> None:
        """It stood still until now, all of it. Raises TooSlow."""
        self.check()
        if not all(_stands(pid) for pid in self._processes):
            raise TooSlow(f"the browser of process {self._root} went on before its files were copied: try again")

    def go_on(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGCONT)
            os.close(process)
        self._processes.clear()
        self._ended = time.monotonic()

    def _stop(self, pid: int, guard: int) -> None:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._processes[pid] = process
        os.write(guard, b"%d\n" % pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGSTOP)
        except ProcessLookupError:
            return
        except PermissionError:
            raise NotPaused(f"process {pid} belongs to another user: run as the one whose browser it is") from None


@contextmanager
def paused(pid: int, profile: Path, lock: int, limit: float = LIMIT) -> Iterator[Pause]:
    """The browser of process `pid`, which runs on `profile`, stands still meanwhile. `lock`: a descriptor with a lock
    on the profile, held until it goes on for certain. Raises NotPaused, also after the work: it does not count then."""
    _check_browser(pid, profile)
    pause = Pause(pid, limit)
    with _guard(lock, limit) as guard:
        try:
            pause.stop(guard)
            yield pause
            pause.verify()
        finally:
            pause.go_on()


@contextmanager
def _guard(lock: int, limit: float) -> Iterator[int]:
    """Where to write what is to be paused. It holds `lock` too, so nobody else pauses what it lets go on."""
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", str(_GUARD), str(limit)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(lock,),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin, process.stdout:
            ready, _, _ = select.select([process.stdout], [], [], _GUARD_STARTS)
            if not ready or process.stdout.read(1) != b".":
                raise NotPaused("what lets the browser go on, whatever happens, did not start: the machine is too busy")
            yield process.stdin.fileno()
    finally:
        try:
            process.wait(_GUARD_STARTS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _check_browser(pid: int, profile: Path) -> None:
    """A lock names a number; whose it is now, the command line says. Raises NotPaused."""
    try:
        arguments = _read(f"/proc/{pid}/cmdline").split(b"\0")
        folder = os.readlink(f"/proc/{pid}/cwd")
    except OSError as error:
        raise NotPaused(f"process {pid}, which is to run on {profile}, cannot be looked at: {error.strerror}") from None
    named = [os.fsdecode(one.partition(b"=")[2]) for one in arguments if one.startswith(b"--user-data-dir=")]
    if not any(os.path.realpath(os.path.join(folder, name)) == os.path.realpath(profile) for name in named):
        raise NotPaused(
            f"process {pid} is named by the lock of {profile}, and is no browser with --user-data-dir={profile}: "
            "if no browser runs there, remove SingletonLock"
        )
    if _state(f"/proc/{pid}/stat") == b"T":
        raise NotPaused(f"process {pid}, the browser on {profile}, stands still already: `kill -CONT {pid}`")


def _stands(pid: int) -> bool:
    """None of its threads runs, or will before it goes on; or it has ended."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return all(_state(f"/proc/{pid}/task/{task}/stat") in b"TtZX" for task in tasks)
    except (FileNotFoundError, ProcessLookupError):
        return True


def _state(stat: str) -> bytes:
    return _read(stat).rpartition(b") ")[2][:1]


def _read(path: str) -> bytes:
    number = os.open(path, os.O_RDONLY)
    try:
        return os.read(number, 65_536)
    finally:
        os.close(number)
