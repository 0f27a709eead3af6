from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from sessions.profiles.browsers import browser_at
from sessions.worker.browser.chromium import Chromium
from sessions.worker.browser.playwrights import Playwrights
from sluice.process.descendants import descendants
from tests.heard import Heard

pytestmark = pytest.mark.slow


def test_another_one_is_started_when_its_process_has_ended(tmp_path: Path, heard: Heard) -> None:
    """In a loop of its own: Playwright leaves an exception behind that nobody can retrieve."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert path, "install a Chromium: sessions run in real browsers"

    async def run() -> None:
        playwrights, about = Playwrights(), await browser_at(path)
        try:
            first = await playwrights.get()
            assert await playwrights.get() is first
            await Chromium.open(first, path, tmp_path / "one", about)
            for pid in filter(_is_driver, descendants(os.getpid())):
                os.kill(pid, signal.SIGKILL)
            second = await playwrights.get()
            assert second is not first
            browser = await Chromium.open(second, path, tmp_path / "two", about)
            assert await browser.within(60, browser.page.evaluate("6 * 7"), "to calculate") == 42
            await browser.close()
        finally:
            await playwrights.close()

    asyncio.run(run())
    assert heard.messages() == ["playwright.ended"]


def _is_driver(pid: int) -> bool:
    return b"run-driver" in Path(f"/proc/{pid}/cmdline").read_bytes()
