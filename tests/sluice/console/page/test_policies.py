"""Limits and policies on the page: over time, who is near, an edit that is tried, a request that is explained."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from gateway.policies import load
from gateway.resources import Resources
from sluice.config.problems import Problem
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from sluice.store.client import Store
from tests.sluice.console.deployment import TOKEN, VAULT_KEY, parts_on
from tests.sluice.console.page.looking import looked
from tests.sluice.console.test_http import served
from tests.sluice.console.test_trying import TEXT, sends, write

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
HOSTILE = '<img src=x onerror="document.title=1">\u202e'
SHOWN = '<img src=x onerror="document.title=1">\\u202e'


@pytest.fixture
async def parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resources:
    """`s1` and a hostile one have sent more than they may."""
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("READ", VAULT_KEY)
    file = tmp_path / "policies.yaml"
    file.write_text(TEXT)
    parts = parts_on(store, load(file))
    write(parts.policies, *sends(7, "s1"), *sends(9, HOSTILE, ago=50), *sends(1, "s2", ago=30))
    kept = [Value("sum", Series("limits", "send", what), n) for what, n in (("allowed", 100), ("rejected", 50))]
    await store.run_all([note("a", 1, 60.0, kept)])
    return parts


@pytest.fixture
async def url(parts: Resources) -> AsyncIterator[str]:
    async with served(parts) as client:
        yield str(client.base_url)


async def edit(page: Page, old: str, new: str) -> None:
    box = page.get_by_label("policies.yaml, as it would be")
    await expect(box).to_have_value(re.compile(re.escape(old)))
    await box.fill((await box.input_value()).replace(old, new))
    await page.get_by_role("button", name="Try it").focus()
    await page.keyboard.press("Enter")


async def test_an_edit_is_tried_with_its_mistakes_its_changes_and_whom_it_would_refuse(
    browser: Browser, url: str, parts: Resources
) -> None:
    async with looked(browser, url, view="#/policies") as it:
        await edit(it.page, "rate: 1/hour", "rate: often")
        mistakes = it.page.get_by_role("table", name="Mistakes of the edit")
        await expect(mistakes).to_contain_text("7:", timeout=120_000)
        await expect(mistakes).to_contain_text("limits[0].rate")
        await edit(it.page, "rate: often, burst: 5", "rate: 1/hour, burst: 1")
        changes = it.page.get_by_role("table", name="What it changes")
        await expect(changes).to_contain_text("limits.send.burst", timeout=120_000)
        limits = it.page.get_by_role("table", name="By limit")
        await expect(limits).to_contain_text("3 passed, 14 refused")
        await expect(limits).to_contain_text("11 passed, 6 refused")
        await expect(it.page.get_by_role("table", name="Subjects")).to_contain_text(SHOWN)
        assert await it.page.locator("img").count() == 0
        assert parts.policies.source.read_text() == TEXT


async def test_a_request_is_explained(browser: Browser, url: str) -> None:
    async with looked(browser, url, view="#/policies", width=360, dark=True) as it:
        await it.page.get_by_label("Path, with its query").fill("/api/send")
        await it.page.get_by_label("Body").fill('{"session": "s1"}')
        await it.page.get_by_role("button", name="Explain").click()
        await expect(it.page.locator("#outcome")).to_have_text("passed on to upstream laravel")
        await expect(it.page.get_by_role("table", name="Limits that it meets")).to_contain_text("5 of 5")
        await it.page.get_by_label("Path, with its query").fill(HOSTILE)
        await it.page.get_by_role("button", name="Explain").click()
        await expect(it.page.get_by_role("alert")).to_contain_text("does not begin with /")
        assert await it.page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_what_is_wrong_with_the_file_is_shown_with_its_line_and_its_cure(
    browser: Browser, url: str, parts: Resources
) -> None:
    async with looked(browser, url, view="#/policies") as it:
        await expect(it.page.get_by_text("The file says what is in force.")).to_be_visible()
        parts.live.problems = (Problem(3, 1, HOSTILE, "unknown key", "did you mean limits"),)
        mistakes = it.page.get_by_role("table", name="Mistakes of the file")
        await expect(mistakes).to_contain_text("3:1")
        await expect(mistakes).to_contain_text(SHOWN)
        await expect(mistakes).to_contain_text("did you mean limits")


async def test_a_limit_is_drawn_over_time_and_who_is_near_leads_to_its_buckets(browser: Browser, url: str) -> None:
    async with looked(browser, url, view="#/limits") as it:
        drawn = it.page.get_by_role("img", name="send")
        await expect(drawn).to_have_attribute("aria-label", re.compile("rejected: .*at most 5 a second"))
        await it.page.get_by_role("button", name="Look", exact=True).click()
        near = it.page.get_by_role("table", name="Nearest to a limit")
        await expect(near).to_contain_text("session s1", timeout=120_000)
        await expect(near).to_contain_text(SHOWN)
        await near.get_by_role("row", name="session s1").get_by_role("button", name="Buckets").click()
        await expect(it.page.get_by_role("table", name="Buckets", exact=True)).to_contain_text("5 of 5")
        assert await it.page.locator("img").count() == 0


async def test_who_may_only_look_explains_but_tries_no_edit(browser: Browser, url: str) -> None:
    async with looked(browser, url, token=VAULT_KEY, view="#/policies") as it:
        await expect(it.page.get_by_text("It takes the token of an operator.")).to_be_visible()
        await it.page.get_by_label("Path, with its query").fill("/api/send")
        await it.page.get_by_role("button", name="Explain").click()
        await expect(it.page.locator("#outcome")).to_contain_text("400: the body is not JSON")
