"""A browser that is opened, and a start that somebody ends."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from sessions.profiles.browsers import Browser, browser_at
from sessions.profiles.in_use import use_of
from sessions.worker.browser import chromium, executable
from sessions.worker.browser.errors import BrowserGone
from sluice.process.descendants import descendants
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WITHIN = 120.0


async def test_a_start_that_is_cancelled_when_the_browser_runs_already_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run beside the next one on that profile, and nobody would know of it."""
    begun, claim = threading.Event(), chromium.claim

    def slowly(profile: Path, browser: Browser) -> int:
        begun.set()
        time.sleep(0.5)
        return claim(profile, browser)

    monkeypatch.setattr(chromium, "claim", slowly)
    path, profile = executable.find("auto"), tmp_path / "profile"
    about = await browser_at(path)
    async with async_playwright() as playwright:
        opening = asyncio.create_task(chromium.Chromium.open(playwright, path, profile, about))
        await until(begun.is_set, timeout=WITHIN)
        assert _on(profile)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert _on(profile) == []
        assert use_of(profile).state == "free"


async def test_a_browser_whose_profile_cannot_be_claimed_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(profile: Path, browser: Browser) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(chromium, "claim", on_a_full_disk)
    path, profile = executable.find("auto"), tmp_path / "profile"
    about = await browser_at(path)
    async with async_playwright() as playwright:
        with pytest.raises(BrowserGone, match=r"profile could not be claimed: No space left on device"):
            await chromium.Chromium.open(playwright, path, profile, about)
        assert _on(profile) == []


def _on(profile: Path) -> list[int]:
    """Processes of ours that have it open."""
    word = os.fsencode(f"--user-data-dir={profile}")
    found = []
    for pid in descendants(os.getpid()):
        try:
            if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found
