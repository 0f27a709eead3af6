"""A clock of the wall that a test steps, for one kind of program: it is preloaded, and everything else stays real."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class SteppingClock:
    """Of all programs whose name begins with `of` and that are started with `environment`."""

    def __init__(self, folder: Path, of: str = "valkey-server") -> None:
        self.error = 0.0
        """Seconds that it is wrong by."""
        file = folder / "clock-steps"
        file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self._steps = mmap.mmap(opened.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(_library()), "CLOCK_STEPS": str(file), "CLOCK_STEPS_OF": of}

    def step(self, seconds: float) -> None:
        """Forward, or back where it is negative."""
        self.error += seconds
        self._steps[:8] = struct.pack("=q", int(self.error * 1e6))


def _library() -> Path:
    """Compiled once for all test processes of this machine and user."""
    text = SOURCE.read_bytes()
    library = Path(tempfile.gettempdir()) / f"sluice-clock-{os.getuid()}-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not library.exists():
        compiler = shutil.which(os.environ.get("CC", "gcc"))
        assert compiler, "these tests need a C compiler (apt-get install gcc libc6-dev)"
        fresh = library.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(fresh), str(SOURCE)], check=True)
        fresh.replace(library)
    return library
