"""A tree of processes stands still, all of it, and goes on whatever happens to whoever has paused it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessions.profiles.pausing import NotPaused, Pause, TooSlow, paused
from tests.waiting import until

pytestmark = pytest.mark.anyio

TREE = """
import subprocess, sys, time
name, deep = sys.argv[1], int(sys.argv[2])
if deep:
    subprocess.Popen([sys.executable, "-c", open(name + ".py").read(), name, str(deep - 1)])
with open(f"{name}.{deep}", "a", buffering=1) as file:
    while True:
        file.write("x")
        file.flush()
        time.sleep(0.001)
"""
"""Each of them writes to a file of its own, and the last of them ends with the first one's group."""
PAUSE = """
import os, sys, time
from pathlib import Path
from sessions.profiles.pausing import paused
with paused(int(sys.argv[1]), Path(sys.argv[2]), os.open(sys.argv[2], os.O_RDONLY), float(sys.argv[3])):
    print("paused", flush=True)
    time.sleep(600)
"""


class Tree:
    def __init__(self, pid: int, files: list[Path]) -> None:
        self.pid = pid
        self.files = files

    def written(self) -> list[int]:
        return [file.stat().st_size for file in self.files]

    async def goes_on(self, within: float = 20.0) -> None:
        before = self.written()
        await until(
            lambda: all(now > then for now, then in zip(self.written(), before, strict=True)),
            timeout=within,
            what=lambda: f"all to write: {before}, {self.written()}",
        )


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    (tmp_path / "profile").mkdir()
    return tmp_path / "profile"


@pytest.fixture
async def tree(tmp_path: Path, profile: Path) -> AsyncIterator[Tree]:
    """Three generations of processes that write all the time, the first one with the mark of a browser."""
    (tmp_path / "tree.py").write_text(TREE)
    mark = f"--user-data-dir={profile}"
    process = subprocess.Popen([sys.executable, "-c", TREE, str(tmp_path / "tree"), "2", mark], start_new_session=True)
    files = [tmp_path / f"tree.{deep}" for deep in range(3)]
    try:
        await until(lambda: all(file.exists() and file.stat().st_size for file in files), timeout=30)
        yield Tree(process.pid, files)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def lock_of(profile: Path) -> Iterator[int]:
    number = os.open(profile, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield number
    finally:
        os.close(number)


@contextmanager
def pause_of(tree: Tree, profile: Path, limit: float) -> Iterator[Pause]:
    with lock_of(profile) as lock, paused(tree.pid, profile, lock, limit) as pause:
        yield pause


async def test_all_of_it_stands_still_and_goes_on(tree: Tree, profile: Path) -> None:
    with pause_of(tree, profile, 10) as pause:
        before = tree.written()
        time.sleep(0.3)
        assert tree.written() == before
    assert 0.3 < pause.seconds < 10
    await tree.goes_on()


async def test_it_goes_on_when_the_work_fails(tree: Tree, profile: Path) -> None:
    with pytest.raises(ZeroDivisionError), pause_of(tree, profile, 10):
        raise ZeroDivisionError
    await tree.goes_on()


async def test_work_that_takes_too_long_does_not_count(tree: Tree, profile: Path) -> None:
    with (
        pytest.raises(TooSlow, match="had to stand still for over 200 ms, and goes on: "),
        pause_of(tree, profile, 0.2),
    ):
        await tree.goes_on()  # before the work has ended
    await tree.goes_on()


async def test_work_does_not_count_when_somebody_else_lets_it_go_on(tree: Tree, profile: Path) -> None:
    with pytest.raises(TooSlow, match="went on before its files were copied"), pause_of(tree, profile, 30):
        os.killpg(tree.pid, signal.SIGCONT)
    await tree.goes_on()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_it_goes_on_when_who_paused_it_is_killed(tree: Tree, profile: Path, end: signal.Signals) -> None:
    with pausing(tree, profile, 600) as process:
        process.send_signal(end)
        process.wait()
        await tree.goes_on()


async def test_it_goes_on_when_who_paused_it_hangs(tree: Tree, profile: Path) -> None:
    with pausing(tree, profile, 0.5) as process:
        process.send_signal(signal.SIGSTOP)
        await tree.goes_on()


async def test_who_paused_it_lets_it_go_on_when_its_guard_is_killed(tree: Tree, profile: Path) -> None:
    with pause_of(tree, profile, 30):
        (guard,) = guards(lambda line: b"pause_guard.py" in line and b"30" in line)
        os.kill(guard, signal.SIGKILL)
    await tree.goes_on()


async def test_a_process_that_is_no_browser_there_is_left_alone(tree: Tree, profile: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    match = f"is no browser with --user-data-dir={other}: if no browser runs there, remove SingletonLock$"
    with pytest.raises(NotPaused, match=match), pause_of(tree, other, 10):
        pass
    await tree.goes_on()


async def test_a_browser_that_stands_still_already_is_told(tree: Tree, profile: Path) -> None:
    os.kill(tree.pid, signal.SIGSTOP)
    await until(lambda: ") T " in Path(f"/proc/{tree.pid}/stat").read_text())
    with (
        pytest.raises(NotPaused, match=f"stands still already: `kill -CONT {tree.pid}`$"),
        pause_of(tree, profile, 10),
    ):
        pass


@contextmanager
def pausing(tree: Tree, profile: Path, limit: float) -> Iterator[subprocess.Popen[str]]:
    """A process that has paused it, and holds it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSE, str(tree.pid), str(profile), str(limit)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "paused\n"
        before = tree.written()
        if limit > 10:
            time.sleep(0.1)
            assert tree.written() == before
        yield process
    finally:
        process.kill()
        process.communicate()


def guards(are: Callable[[bytes], bool]) -> list[int]:
    """Our own."""
    children = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for one in children for pid in one.read_text().split()]
    return [pid for pid in pids if are(Path(f"/proc/{pid}/cmdline").read_bytes())]
