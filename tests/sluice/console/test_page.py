"""The page in a real browser."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway import metrics
from relay import presence
from sluice.observe import recent
from sluice.store.client import Store
from tests.sluice.console.deployment import TOKEN, parts_on, policies_in
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

UPSTREAMS = """
console: {token: env:TOKEN}
upstreams:
  page-well: {url: "http://127.0.0.1:8001"}
  page-down: {url: "http://127.0.0.1:8002"}
"""


async def looked_at(url: str, profile: Path) -> str:
    """What the page shows after some looks, as text."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "install a Chromium: the page is looked at in a real browser"
    process = await asyncio.create_subprocess_exec(
        *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
        *("--virtual-time-budget=5000", "--dump-dom", url),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return " ".join(re.sub("<[^>]*>", " ", out.decode()).split())


async def test_upstreams_are_shown_with_what_failed_and_why(store: Store, tmp_path: Path) -> None:
    for _ in range(8):
        metrics.upstream_answered("page-well", 200, 0.01)
        metrics.upstream_failed("page-down", "unreachable")
    metrics.upstream_answered("page-down", 503, 0.01)
    metrics.upstream_circuit("page-down", "open")
    await recent.run_once()
    await presence.report(store, "relay-1")
    parts = parts_on(store, policies_in(tmp_path, UPSTREAMS))
    async with served(parts) as client:
        shown = await looked_at(f"{client.base_url}/_sluice/#token={TOKEN}", tmp_path / "profile")
    assert "Upstreams Requests of the last minute. Upstream Circuit Requests Failed" in shown
    assert "page-well http://127.0.0.1:8001 closed 8 0" in shown
    assert "page-down http://127.0.0.1:8002 open 9 9 8 unreachable, 1 503" in shown
    assert "upstream page-down: its circuit is open: one request a second goes through to find out" in shown
