from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from sessions.load import Usage


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
