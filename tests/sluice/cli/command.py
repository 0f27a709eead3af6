"""The `sluice` command as a person runs it: a process of its own, its exit code and what it said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
SECRETS = {"WHATSAPP_HMAC_SECRET": "the-hmac-secret-of-tests", "SLUICE_CONSOLE_TOKEN": "the-console-token"}


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


def sluice(*arguments: object, secrets: Mapping[str, str] = SECRETS, folder: Path = ROOT, columns: int = 200) -> Ran:
    """Runs it to its end in `folder`, without a terminal, with no secrets in the environment but these."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(secrets, columns),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "sluice", *map(str, arguments)]


def environment(secrets: Mapping[str, str] = SECRETS, columns: int = 200) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return {**kept, "COLUMNS": str(columns), "PYTHONPATH": str(ROOT), **secrets}
