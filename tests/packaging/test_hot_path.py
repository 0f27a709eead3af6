"""scripts/hot_path.py on a small tree whose "compiler" is a few lines of Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until

pytestmark = pytest.mark.anyio
SCRIPT = Path(__file__).parents[2] / "scripts" / "hot_path.py"
COMPILER = """
import pathlib, sys, time
COMPILED = ("gateway/edge.py",)
if __name__ == "__main__":
    pathlib.Path("begun").touch()
    {does}
    out = pathlib.Path("lib", "gateway")
    out.mkdir(parents=True)
    (out / "edge.so").write_text(pathlib.Path("gateway/edge.py").read_text())
"""


class Tree:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.edge = root / "gateway" / "edge.py"
        self.compiled = root / "gateway" / "edge.so"
        self.home = root / ".venv" / "hot-path"
        for package in ("gateway", "relay", "sessions", "sluice", "scripts", ".venv"):
            (root / package).mkdir()
        for name in ("pyproject.toml", "README.md", "requirements-build.lock"):
            (root / name).touch()
        shutil.copy(SCRIPT, root / "scripts")
        self.edge.write_text("one")
        self.compiler("pass")
        self.started: list[subprocess.Popen[str]] = []

    def compiler(self, does: str) -> None:
        (self.root / "setup.py").write_text(COMPILER.format(does=does))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(self.root / "scripts" / "hot_path.py"), *arguments],
            env={name: value for name, value in os.environ.items() if name != "SLUICE_PURE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def running(self) -> subprocess.Popen[str]:
        """Something that runs until its input ends."""
        process = self.start("run", "cat")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("up\n")
        process.stdin.flush()
        assert process.stdout.readline() == "up\n"
        return process

    def call(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=30)
        return process.returncode, said

    def builds(self) -> list[str]:
        return [folder.name for folder in self.home.iterdir() if folder.is_dir()]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    for process in tree.started:
        process.kill()
        process.communicate()


async def test_what_is_built_is_used_from_the_next_start_on(tree: Tree) -> None:
    assert tree.call("is-built") == (1, "")
    assert tree.call("build") == (
        0,
        "compiling the hot path (once, and after edits to it); SLUICE_PURE=1 does without\nthe hot path is compiled\n",
    )
    assert not tree.compiled.exists()
    assert tree.call("is-built") == (0, "")
    assert tree.call("run", "cat", str(tree.compiled)) == (0, "one")
    assert tree.call("build") == (0, ""), "once is enough"


async def test_what_was_compiled_before_an_edit_is_taken_away(tree: Tree) -> None:
    tree.call("build")
    tree.call("run", "true")
    tree.edge.write_text("two")
    assert tree.call("is-built") == (1, "")
    assert tree.call("run", "true") == (0, "")
    assert not tree.compiled.exists()
    tree.call("build")
    assert tree.call("run", "cat", str(tree.compiled)) == (0, "two")
    assert len(tree.builds()) == 1, "the old one is gone"


async def test_half_of_what_was_built_is_taken_away(tree: Tree) -> None:
    tree.compiled.write_text("left behind by a copy that was killed")
    assert tree.call("run", "true") == (0, "")
    assert not tree.compiled.exists()


async def test_nothing_is_put_under_a_running_process(tree: Tree) -> None:
    running = tree.running()
    tree.call("build")
    assert tree.call("run", "true") == (
        0,
        "another Sluice runs from this folder as plain Python, so this one does, too\n",
    )
    assert not tree.compiled.exists()
    running.communicate()
    assert tree.call("run", "cat", str(tree.compiled)) == (0, "one")


async def test_nothing_is_taken_from_under_a_running_process(tree: Tree) -> None:
    tree.call("build")
    running = tree.running()
    tree.edge.write_text("two")
    refusal = "Sluice or its tests run from this folder, compiled before the last edits; stop them\n"
    assert tree.call("run", "true") == (2, refusal)
    assert tree.compiled.read_text() == "one"
    tree.edge.write_text("one")
    assert tree.call("run", "true") == (0, ""), "the same sources may run twice"
    running.communicate()


async def test_an_edit_during_the_compiling_does_not_pass_for_compiled(tree: Tree) -> None:
    tree.compiler("time.sleep(0.5)")
    building = tree.start("build")
    await until((tree.home / "building" / "begun").exists)
    tree.edge.write_text("two")
    building.communicate(timeout=30)
    assert building.returncode == 0
    assert tree.call("is-built") == (1, "")


async def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tree: Tree) -> None:
    tree.compiler('sys.exit("no room on the disk")')
    assert tree.call("build") == (
        1,
        "compiling the hot path (once, and after edits to it); SLUICE_PURE=1 does without\n"
        "the hot path could not be compiled; .venv/hot-path/log ends with:\n  no room on the disk\n",
    )
    assert tree.call("is-built") == (1, "")


async def test_compiling_beside_a_process_ends_with_it(tree: Tree) -> None:
    tree.compiler("time.sleep(60)")
    running = tree.running()
    building = tree.start("build", "--while", str(running.pid))
    await until((tree.home / "building" / "begun").exists)
    running.communicate()
    said, _ = building.communicate(timeout=10)
    assert building.returncode == 1
    assert said.endswith(
        "compiling the hot path (once, and after edits to it); meanwhile Sluice runs as plain Python\n"
    )
    tree.compiler("pass")
    assert tree.call("build")[0] == 0, "what it left behind is in nobody's way"


async def test_two_at_once_compile_once(tree: Tree) -> None:
    tree.compiler("time.sleep(0.5)")
    first = tree.start("build")
    await until((tree.home / "building" / "begun").exists)
    assert tree.call("build") == (0, "the hot path is being compiled by another script; waiting for it\n")
    assert tree.call("build", "--while", str(os.getpid())) == (0, "")
    first.communicate(timeout=10)
    assert len(tree.builds()) == 1
