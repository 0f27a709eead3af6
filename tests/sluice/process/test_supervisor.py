"""The supervisor with real child processes: tiny programs that leave notes of what they see in a file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sluice.process import supervisor
from sluice.process.supervisor import Program, Supervisor
from tests.waiting import until

pytestmark = pytest.mark.anyio

BEGINNING = """
import os, signal, sys, time
name, notes = sys.argv[1:]
def note(text):
    with open(notes, "a") as file:
        file.write(f"{name} {text}\\n")
def stopped(*_):
    note("told to stop")
    time.sleep(0.1)
    note("ends")
    sys.exit(0)
signal.signal(signal.SIGTERM, stopped)
"""
STAYS = 'note("is ready")\ntime.sleep(60)\n'


class Stage:
    """Programs, what they noted, and what was said about them."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes"
        self._notes.touch()
        self.said: list[str] = []
        self.pids: list[int] = []
        self._supervisors: list[Supervisor] = []

    def program(self, name: str, does: str, ready: Callable[[], Awaitable[None]] | None = None) -> Program:
        """Ready, unless another way is given, when it has noted so."""
        argv = [sys.executable, "-u", "-c", BEGINNING + does, name, str(self._notes)]

        async def noted() -> None:
            await until(lambda: f"{name} is ready" in self.notes(), what=f"{name} to be ready")

        return Program(name, argv, {"COLOUR": "green"}, ready or noted, self.pids.append)

    def supervisor(self, *programs: Program) -> Supervisor:
        made = Supervisor(programs, self.said.append)
        self._supervisors.append(made)
        return made

    def notes(self) -> list[str]:
        return self._notes.read_text().splitlines()

    async def close(self) -> None:
        for made in self._supervisors:
            await made.stop()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    await stage.close()


async def at_once() -> None:
    return


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_programs_start_in_order_each_once_the_one_before_is_ready(stage: Stage) -> None:
    slow = 'note("starts")\ntime.sleep(0.2)\n' + STAYS
    await stage.supervisor(*(stage.program(name, slow) for name in "abc")).start()
    assert stage.notes() == [f"{name} {what}" for name in "abc" for what in ("starts", "is ready")]
    assert stage.said == []


async def test_a_program_knows_that_it_is_supervised_and_gets_its_environment(stage: Stage) -> None:
    tells = 'note(os.environ["SLUICE_SUPERVISED"] + " " + os.environ["COLOUR"])\n' + STAYS
    await stage.supervisor(stage.program("a", tells)).start()
    assert stage.notes()[0] == "a 1 green"


async def test_they_stop_in_reverse_order_each_after_the_one_before_has_ended(stage: Stage) -> None:
    running = stage.supervisor(*(stage.program(name, STAYS) for name in "abc"))
    await running.start()
    await running.stop()
    assert stage.notes()[3:] == [f"{name} {what}" for name in "cba" for what in ("told to stop", "ends")]
    assert stage.said == [], "nobody is told of an end that was wished for"
    assert len(stage.pids) == 3
    assert not any(map(runs, stage.pids))


async def test_programs_are_added_and_removed_while_others_run(stage: Stage) -> None:
    running = stage.supervisor(stage.program("a", STAYS))
    await running.start()
    running.add(stage.program("b", STAYS))
    running.add(stage.program("c", STAYS))
    await until(lambda: {"b is ready", "c is ready"} <= {*stage.notes()})
    await running.remove("b")
    assert stage.notes()[3:] == ["b told to stop", "b ends"]
    await running.stop()
    assert stage.notes()[5:] == ["c told to stop", "c ends", "a told to stop", "a ends"]
    assert not any(map(runs, stage.pids))
    assert stage.said == []


async def test_a_program_that_was_added_and_dies_is_started_again(stage: Stage) -> None:
    running = stage.supervisor()
    running.add(stage.program("a", STAYS))
    await until(lambda: stage.notes() == ["a is ready"])
    os.kill(int(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()[-1]), signal.SIGKILL)
    await until(lambda: stage.notes() == ["a is ready"] * 2)
    running.kill()


async def test_a_program_that_dies_is_started_again_after_a_growing_wait_and_its_last_lines_are_shown(
    stage: Stage,
) -> None:
    flaky = (
        'note(time.monotonic())\nfor n in range(20):\n    print(f"line {n}", file=(sys.stdout, sys.stderr)[n % 2])\n'
        "sys.exit(3)\n"
    )
    running = stage.supervisor(stage.program("flaky", flaky, at_once))
    await running.start()
    await until(lambda: len(stage.notes()) == 3, what="three starts")
    await until(lambda: len(stage.said) == 17, what="three deaths")
    await running.stop()
    assert stage.said == [
        "flaky ended with exit code 3; it is started again in 0.25s",
        *(f"  flaky: line {n}" for n in range(8, 20)),
        "flaky ended with exit code 3; it is started again in 0.5s",
        "  flaky: the same last lines as before",
        "flaky ended with exit code 3; it is started again in 1s",
        "  flaky: the same last lines as before",
    ]
    first, second, third = (float(line.split()[1]) for line in stage.notes())
    assert second - first >= 0.25
    assert third - second >= 0.5
    assert len(set(stage.pids)) == 3, "whoever counts processes was told of each"


async def test_other_last_lines_are_shown_again(stage: Stage) -> None:
    await stage.supervisor(stage.program("a", 'note("x")\nprint(time.monotonic())\nsys.exit(1)\n', at_once)).start()
    await until(lambda: len(stage.said) >= 4, what="two deaths")
    assert stage.said[1].startswith("  a: ")
    assert stage.said[3].startswith("  a: ")
    assert stage.said[1] != stage.said[3] != "  a: the same last lines as before"


async def test_the_wait_has_an_end_and_a_long_life_makes_it_short_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(supervisor, "_MAX_WAIT", 0.03)
    monkeypatch.setattr(supervisor, "_LONG_ENOUGH", 1.5)
    lives = 'note("x")\nif len(open(notes).readlines()) == 4:\n    time.sleep(1.5)\nsys.exit(1)\n'
    await stage.supervisor(stage.program("a", lives, at_once)).start()
    await until(lambda: len(stage.said) >= 4, what="four deaths")
    assert [line.rpartition(" ")[2] for line in stage.said[:4]] == ["0.01s", "0.02s", "0.03s", "0.01s"]


async def test_a_death_without_a_word_shows_no_lines(stage: Stage) -> None:
    dies = (
        'note("x")\nif len(open(notes).readlines()) == 2:\n    time.sleep(60)\nos.kill(os.getpid(), signal.SIGKILL)\n'
    )
    await stage.supervisor(stage.program("a", dies, at_once)).start()
    await until(lambda: len(stage.notes()) == 2, what="a second start")
    assert stage.said == ["a was killed by SIGKILL; it is started again in 0.25s"]


async def test_a_program_that_cannot_be_started_is_said_and_tried_again(stage: Stage, tmp_path: Path) -> None:
    late = tmp_path / "late"
    running = stage.supervisor(
        stage.program("before", STAYS), Program("late", [str(late)], ready=lambda: until(lambda: "again" in stage.said))
    )
    starting = asyncio.create_task(running.start())
    await until(lambda: stage.said, what="word of it")
    assert stage.said[0] == (
        f"late cannot be started ([Errno 2] No such file or directory: '{late}'); it is started again in 0.25s"
    )
    late.write_text("#!/bin/sh\necho here I am\n")
    late.chmod(0o700)
    await until(lambda: "  late: here I am" in stage.said, what="it to run")
    stage.said.append("again")
    await starting
    await running.stop()
    assert "before ends" in stage.notes()


async def test_a_program_that_says_more_than_a_line_can_hold_does_not_stand_still(stage: Stage) -> None:
    talks = (
        'for n in range(3):\n    print("x" * 300_000)\n    for _ in range(3000):\n        print("y" * 100)\n'
        'print("z" * 1000)\nsys.exit(4)\n'
    )
    await stage.supervisor(stage.program("a", talks, at_once)).start()
    await until(lambda: len(stage.said) >= 13, what="its end")
    assert stage.said[0] == "a ended with exit code 4; it is started again in 0.25s"
    assert stage.said[12] == "  a: " + "z" * 500


async def test_a_program_that_ignores_sigterm_is_killed_with_what_it_started(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_STOPPED_WITHIN", 0.8)
    deaf = (
        "import subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        'note(subprocess.Popen(["sleep", "60"]).pid)\nnote(os.getpid())\n' + STAYS
    )
    running = stage.supervisor(stage.program("before", STAYS), stage.program("deaf", deaf))
    await running.start()
    own, its = (int(line.split()[1]) for line in stage.notes()[1:3])
    asked = time.monotonic()
    await running.stop()
    assert time.monotonic() - asked < 5
    assert stage.said == ["deaf does not stop within 0.8s and is killed"]
    await until(lambda: not runs(own) and not runs(its), what="both to be gone")
    assert stage.notes()[-1] == "before ends", "the others are stopped all the same"


async def test_a_stop_while_one_is_not_ready_yet_starts_nothing_more(stage: Stage) -> None:
    running = stage.supervisor(
        stage.program("a", STAYS), stage.program("b", 'note("starts")\ntime.sleep(60)\n'), stage.program("c", STAYS)
    )
    starting = asyncio.create_task(running.start())
    await until(lambda: "b starts" in stage.notes(), what="the second to start")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await running.stop()
    assert stage.notes() == ["a is ready", "b starts", "b told to stop", "b ends", "a told to stop", "a ends"]


async def test_a_stop_while_one_waits_to_be_started_again_does_not_wait(stage: Stage) -> None:
    running = stage.supervisor(stage.program("a", 'note("x")\nsys.exit(1)\n', at_once))
    await running.start()
    await until(lambda: len(stage.said) == 3, what="three deaths")
    asked = time.monotonic()
    await running.stop()
    assert time.monotonic() - asked < 0.5
    assert len(stage.notes()) == 3


async def test_a_stop_at_once_leaves_nothing_running(stage: Stage) -> None:
    for turns in range(4):
        running = stage.supervisor(stage.program("a", STAYS, at_once))
        await running.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await running.stop()
    assert not any(map(runs, stage.pids))
    assert stage.notes().count("a is ready") == stage.notes().count("a ends"), "whoever got that far was told to stop"


SUPERVISING = """
import asyncio, sys
from sluice.process.supervisor import Program, Supervisor
child = '''
import asyncio, os, signal, sys
from sluice.process.loops import Stop
async def main():
    stop = Stop()
    stop.on_signals()
    stop.on_parent_gone()
    print(os.getpid(), file=open(sys.argv[1], "a"), flush=True)
    await stop.wait()
    print("by itself", file=open(sys.argv[1], "a"), flush=True)
asyncio.run(main())
'''
async def main():
    names = ("a", "b", "c")
    await Supervisor([Program(n, [sys.executable, "-c", child, sys.argv[1]]) for n in names], print).start()
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_children_end_by_themselves_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, "-c", SUPERVISING, str(notes)], env=environment) as process:
        try:
            await until(lambda: len(notes.read_text().splitlines()) == 3, what="three children")
            children = [int(line) for line in notes.read_text().splitlines()]
            assert all(map(runs, children))
        finally:
            process.send_signal(signal.SIGKILL)
    await until(lambda: not any(map(runs, children)), what="the children to go")
    assert notes.read_text().splitlines()[3:] == ["by itself"] * 3
