"""The libraries of the page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sluice.console.page.libraries import complete, install

ROOT = Path(__file__).parents[4]


def test_they_come_with_their_licences_and_find_each_other(tmp_path: Path) -> None:
    install(tmp_path)
    assert complete(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"preact.js", "hooks.js", "htm.js", "uplot.js", "uplot.css"}
    assert b'from"./preact.js"' in (tmp_path / "hooks.js").read_bytes()
    assert b"MIT License" in (tmp_path / "preact.js").read_bytes()


def test_they_are_fetched_with_nothing_installed_and_why_not_is_said(tmp_path: Path) -> None:
    """As the build of a wheel does; no packages are seen (-S)."""
    environment = {
        "PATH": str(tmp_path),
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "npm_config_registry": "http://127.0.0.1:1/",
    }
    to = str(tmp_path / "to")
    fetch = f"import pathlib, sluice.console.page.libraries as one; one.install(pathlib.Path({to!r}))"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", fetch], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Unavailable: preact cannot be fetched" in ran.stderr
    assert os.listdir(tmp_path) == []
