from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sessions import load
from sessions.load import Memory, Usage


def test_the_shares_are_those_of_this_machine_and_this_process() -> None:
    usage = Usage()
    ends = time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    shares = usage.shares()
    assert shares is not None
    assert 0 < shares["memory"] < 1
    assert 0 < shares["cpu"] <= 1


def test_what_a_child_of_a_child_uses_counts_too() -> None:
    usage = Usage()
    burn = "import time; end = time.process_time() + 30\nwhile time.process_time() < end: pass"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    child = subprocess.Popen([sys.executable, "-c", start], process_group=0)
    try:
        deadline = time.monotonic() + 20
        while (shares := usage.shares()) is None or shares["cpu"] < 0.02:
            assert time.monotonic() < deadline, shares
            time.sleep(0.5)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@pytest.mark.parametrize("within", ["/", "/system.slice/sluice.service"])
def test_the_limit_of_a_container_or_a_service_counts_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    """What systemd's MemoryMax and a container's limit are, as the kernel shows them."""
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 6000 kB\n")
    (tmp_path / "self" / "cgroup").write_text(f"0::{within}\n")
    group = tmp_path / "cgroup" / within.lstrip("/")
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("700000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    monkeypatch.setattr(load, "_PROC", tmp_path)
    monkeypatch.setattr(load, "_CGROUP", tmp_path / "cgroup")
    assert load.memories() == (Memory(8_192_000, 6_144_000), Memory(1_000_000, 500_000))
    (group / "memory.max").write_text("max\n")
    assert load.memories() == (Memory(8_192_000, 6_144_000),)
