from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.observe.preallocate import KINDS

COUNT = """
from sluice.observe.preallocate import preallocate
preallocate()
import os
from gateway import metrics
from relay import metrics as relay_metrics
from sluice.observe.tallies import flush
{fill}
for i in range(500):
    metrics.decided(f"limit-{{i}}", "allowed")
    relay_metrics.attempted(f"endpoint-{{i % 50}}", "delivered", 0.1, 0.2, 1)
flush()
metrics.held(3)
print("counted", "PROMETHEUS_MULTIPROC_DIR" in os.environ)
"""
FILL = """
try:
    with open(os.environ.get("PROMETHEUS_MULTIPROC_DIR", {folder!r}) + "/filling", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
except OSError:
    pass
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def count(folder: Path, fill: str = "") -> tuple[int, str, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT.format(fill=fill)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=60)
    return process.returncode, out, process.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_process_goes_on_counting_on_a_disk_that_has_become_full(small_disk: Path) -> None:
    code, out, _ = count(small_disk, FILL.format(folder=str(small_disk)))
    assert (code, out) == (0, "counted True\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_process_that_starts_on_a_full_disk_counts_for_itself(small_disk: Path) -> None:
    (small_disk / "filling").write_bytes(b"x" * 3 * 1024**2)
    code, out, _ = count(small_disk)
    assert (code, out) == (0, "counted False\n")
    assert not list(small_disk.glob("*.db"))


def test_every_kind_of_file_that_is_counted_in_has_its_room(tmp_path: Path) -> None:
    code, out, pid = count(tmp_path)
    assert (code, out) == (0, "counted True\n")
    assert {file.name for file in tmp_path.iterdir()} == {f"{kind}_{pid}.db" for kind in KINDS}
    assert all(file.stat().st_blocks * 512 >= 256 * 1024 for file in tmp_path.iterdir())
