"""Whether a browser runs on a profile, by the lock that Chromium makes."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from sessions.profiles.in_use import Use, unlock, use_of

HERE = socket.gethostname()


def test_a_profile_without_a_lock_is_free(tmp_path: Path) -> None:
    assert use_of(tmp_path) == Use("free")


def test_a_living_process_uses_it(tmp_path: Path) -> None:
    (tmp_path / "SingletonLock").symlink_to(f"{HERE}-{os.getpid()}")
    assert use_of(tmp_path) == Use("in_use", os.getpid(), HERE)
    assert use_of(tmp_path).detail == f"process {os.getpid()} runs on it: stop it first"


def test_the_lock_of_a_process_that_is_gone_is_left_over(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    (tmp_path / "SingletonLock").symlink_to(f"{HERE}-{process.pid}")
    assert use_of(tmp_path) == Use("left_over", process.pid, HERE)


def test_a_process_that_has_ended_uses_nothing_though_nobody_has_waited_for_it(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / "SingletonLock").symlink_to(f"{HERE}-{process.pid}")
    assert use_of(tmp_path) == Use("left_over", process.pid, HERE)
    process.wait()


@pytest.mark.parametrize("target", ["another-host-17", "no lock of chromium's"])
def test_a_lock_of_another_machine_is_foreign(tmp_path: Path, target: str) -> None:
    (tmp_path / "SingletonLock").symlink_to(target)
    assert use_of(tmp_path, "here").state == "foreign"


def test_a_lock_is_taken_away(tmp_path: Path) -> None:
    for name in ("SingletonLock", "SingletonCookie", "SingletonSocket"):
        (tmp_path / name).symlink_to("another-host-17")
    unlock(tmp_path)
    unlock(tmp_path)
    assert list(tmp_path.iterdir()) == []
