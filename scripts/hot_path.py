"""The compiled hot path: builds it beside the running product, and puts it in place between two starts.

    is-built            exit code 0 when what would be built is there already
    build [--while PID] builds into .venv/hot-path/<fingerprint>, with progress; ends with the process PID
    run COMMAND...      puts in place what was built of these very sources, takes away what was built of others, and
                        becomes COMMAND

A process that finds one module compiled and its neighbour plain may crash, and a supervisor starts its children again
at any time. So files are put into place or taken away only while nobody runs from here: `run` holds a lock that its
COMMAND keeps. What is built comes from a copy of the sources, and appears whole or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "relay", "sessions", "sluice")
HOME = ROOT / ".venv" / "hot-path"
IN_PLACE = HOME / "in-place"
"""The fingerprint of what lies beside the sources, while all of it does."""
BUILDING = HOME / "building"
LOG = HOME / "log"
EXPECTED = 100
"""Seconds that it takes on one core; nearly all of them are the C compiler's, on one file."""
TOLD_EVERY = 10.0


def fingerprint(root: Path = ROOT) -> str:
    """Of all that decides what the compiler makes."""
    compiled = runpy.run_path(str(root / "setup.py"), run_name="hot_path")["COMPILED"]
    digest = hashlib.sha256(str(sysconfig.get_config_var("EXT_SUFFIX")).encode())
    for name in ("setup.py", "requirements-build.lock", *compiled):
        digest.update(b"\0%b\0" % name.encode() + (root / name).read_bytes())
    return digest.hexdigest()[:16]


def is_built() -> bool:
    wanted = fingerprint()
    return wanted == _in_place() or (HOME / wanted).is_dir()


def is_stale() -> bool:
    """Whether what lies beside the sources was compiled from others."""
    return any(compiled_files()) and _in_place() != fingerprint()


def build(beside: int | None) -> int:
    """The exit code. `beside`: the process without which it makes no sense to go on."""
    HOME.mkdir(exist_ok=True)
    with _lock("build", fcntl.LOCK_EX | fcntl.LOCK_NB) as mine:
        if not mine:
            if beside is not None:
                return 0  # whoever began it tells of it
            _say("the hot path is being compiled by another script; waiting for it")
            with _lock("build", fcntl.LOCK_EX):
                return 0 if is_built() else build(None)
        if is_built():
            return 0
        return _build(beside)


def _build(beside: int | None) -> int:
    shutil.rmtree(BUILDING, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, BUILDING / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "requirements-build.lock"):
        shutil.copy(ROOT / name, BUILDING)
    wanted = fingerprint(BUILDING)
    meanwhile = "; meanwhile Sluice runs as plain Python" if beside is not None else "; SLUICE_PURE=1 does without"
    _say(f"compiling the hot path (once, and after edits to it){meanwhile}", beside)
    if not _compile(beside):
        return 1
    (BUILDING / "lib").rename(HOME / wanted)
    shutil.rmtree(BUILDING)
    _say("the hot path is compiled" + ("; the next start uses it" if beside is not None else ""), beside)
    return 0


def _compile(beside: int | None) -> bool:
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp"]
    environment = {name: value for name, value in os.environ.items() if name != "SLUICE_PURE"}
    began = told = time.monotonic()
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=BUILDING, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, process_group=0
        )
        try:
            while process.poll() is None:
                if beside is not None and not _runs(beside):
                    return False
                if (now := time.monotonic()) - told >= TOLD_EVERY:
                    told = now
                    _say(f"compiling the hot path: {now - began:.0f} s so far; an idle core takes {EXPECTED}", beside)
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode == 0:
        return True
    last = LOG.read_text(errors="replace").splitlines()[-5:]
    _say(f"the hot path could not be compiled; {LOG.relative_to(ROOT)} ends with:", beside)
    for line in last:
        _say(f"  {line}", beside)
    return False


def run(command: list[str]) -> NoReturn:
    """Becomes the command; exits where that cannot be."""
    HOME.mkdir(exist_ok=True)
    wanted = "" if os.environ.get("SLUICE_PURE") else fingerprint()
    in_use = os.open(HOME / "in-use.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _is_right(wanted):
        try:
            fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if any(compiled_files()):
                sys.stderr.write(
                    "Sluice or its tests run from this folder, compiled before the last edits; stop them\n"
                )
                sys.exit(2)
            _say("another Sluice runs from this folder as plain Python, so this one does, too")
        else:
            _put_in_place(wanted)
    fcntl.flock(in_use, fcntl.LOCK_SH)
    os.set_inheritable(in_use, True)
    os.execvp(command[0], command)


def _is_right(wanted: str) -> bool:
    """`wanted`: a fingerprint, or nothing for plain Python."""
    if found := _in_place():
        return found == wanted
    return not any(compiled_files()) and not (wanted and (HOME / wanted).is_dir())


def _put_in_place(wanted: str) -> None:
    IN_PLACE.unlink(missing_ok=True)
    for file in compiled_files():
        file.unlink()
    if not wanted or not (HOME / wanted).is_dir():
        return
    shutil.copytree(HOME / wanted, ROOT, dirs_exist_ok=True)
    IN_PLACE.write_text(wanted)
    for other in HOME.iterdir():
        if other.is_dir() and other not in (HOME / wanted, BUILDING):
            shutil.rmtree(other)


def _in_place() -> str:
    return IN_PLACE.read_text() if IN_PLACE.exists() else ""


def compiled_files() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.so")


@contextlib.contextmanager
def _lock(name: str, how: int) -> Iterator[bool]:
    """Whether it was got."""
    with (HOME / f"{name}.lock").open("a") as file:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            yield False
        else:
            yield True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _say(line: str, beside: int | None = None) -> None:
    """Beside Sluice in the form of its own lines."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {line}\n" if beside is not None else f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("is-built")
    commands.add_parser("build").add_argument("--while", dest="beside", type=int, metavar="PID")
    commands.add_parser("run").add_argument("argv", nargs=argparse.REMAINDER)
    wishes = parser.parse_args()
    if wishes.command == "is-built":
        return 0 if is_built() else 1
    if wishes.command == "build":
        return build(wishes.beside)
    run(wishes.argv)


if __name__ == "__main__":
    sys.exit(main())
