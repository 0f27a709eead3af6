"""The page without its libraries, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from gateway import metrics
from relay import presence
from sluice.console.page import libraries
from sluice.observe import recent
from sluice.store.client import Store
from tests.sluice.console.deployment import parts_on, policies_in
from tests.sluice.console.page.looking import chromium, looked
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

UPSTREAMS = """
console: {token: env:TOKEN}
upstreams:
  page-well: {url: "http://127.0.0.1:8001"}
  page-down: {url: "http://127.0.0.1:8002"}
"""


async def test_it_shows_what_is_wrong_and_every_upstream_with_what_failed_and_why(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "complete", lambda: False)
    for _ in range(8):
        metrics.upstream_answered("page-well", 200, 0.01)
        metrics.upstream_failed("page-down", "unreachable")
    metrics.upstream_answered("page-down", 503, 0.01)
    metrics.upstream_circuit("page-down", "open")
    await recent.run_once()
    await presence.report(store, "relay-1")
    parts = parts_on(store, policies_in(tmp_path, UPSTREAMS))
    async with served(parts) as client, chromium() as browser, looked(browser, str(client.base_url)) as it:
        await expect(it.page.locator("#upstreams table")).to_be_visible()
        shown = " ".join((await it.page.locator("body").inner_text()).split())
    assert "Upstreams Requests of the last minute. Upstream Circuit Requests Failed" in shown
    assert "page-well http://127.0.0.1:8001 closed 8 0" in shown
    assert "page-down http://127.0.0.1:8002 open 9 9 8 unreachable, 1 503" in shown
    assert "upstream page-down: its circuit is open: one request a second goes through to find out" in shown
