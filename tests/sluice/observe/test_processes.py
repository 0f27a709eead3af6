from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from sluice.observe import metrics, processes


def test_a_process_says_who_it_is_and_how_often_it_was_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.RESTARTS, "3")
    processes.started("test-process")
    families = list(metrics.registry().collect())
    assert processes.named(families)["test-process"] == os.getpid()
    assert processes.restarts(families)["test-process"] == 3


@pytest.mark.parametrize("said", ["", "many", "-1"])
def test_what_is_no_number_of_restarts_is_none(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(processes.RESTARTS, said)
    processes.started("test-process")
    assert processes.restarts(metrics.registry().collect())["test-process"] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")
def test_the_system_says_what_a_process_uses() -> None:
    began = time.time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        usage = processes.usage(child.pid)
        assert usage is not None
        assert began - 2 < usage.started < time.time() + 2
        assert 0 <= usage.cpu < 10
        child.kill()
    own = processes.usage(os.getpid())
    assert own is not None
    assert own.memory > 5_000_000
    assert own.files >= 3
    assert processes.usage(child.pid) is None
