"""What was counted over the last hour, day and 14 days, on the page: as charts, in words, and as a table."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from gateway.resources import Resources
from sluice.console.page import libraries
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from sluice.store.client import Store
from tests.sluice.console.deployment import parts_on, policies_in
from tests.sluice.console.page.looking import looked
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
HOSTILE = '<img src=x onerror="document.title=1">\u202e'
SHOWN = '<img src=x onerror="document.title=1">\\u202e'
HOUR = 3600.0


async def keep(parts: Resources, number: int, age: float, *values: tuple[str, str, str, float]) -> None:
    """As a gateway does it for what it counted so many seconds ago."""
    kept = [
        Value("max" if chart in ("waiting", "dead") else "sum", Series(chart, of, what), n)
        for chart, of, what, n in values
    ]
    await parts.store.run_all([note("a", number, age, kept)])


async def fill(parts: Resources) -> None:
    """600 requests in a step of an hour ago, none since; deliveries, dead letters and waits of four days ago."""
    await keep(
        parts,
        1,
        96 * HOUR,
        ("deliveries", "laravel", "delivered", 7200),
        ("deliveries", "laravel", HOSTILE, 1),
        ("dead", "laravel", "dead", 3),
    )
    await keep(
        parts,
        2,
        0.5 * HOUR,
        ("requests", "", "2xx", 600),
        ("requests", "", "5xx", 30),
        ("limits", "typing", "allowed", 1),
    )
    await keep(parts, 3, 0.5 * HOUR, ("request_seconds", "", "0.1", 10), ("limits", "typing", "rejected", 60))
    await keep(parts, 4, 20.0, ("requests", "", "2xx", 20), ("limits", "typing", "rejected", 0))


@pytest.fixture
async def url(parts: Resources) -> AsyncIterator[str]:
    await fill(parts)
    async with served(parts) as client:
        yield str(client.base_url)


async def test_each_range_is_drawn_and_told_in_words_and_a_reload_loses_nothing(browser: Browser, url: str) -> None:
    async with looked(browser, url) as it:
        for _ in range(2):
            answered = it.page.get_by_role("img", name="Requests answered")
            await expect(answered).to_have_attribute("aria-label", re.compile("2xx: 2 a second .*at most 60 a second"))
            await expect(answered.locator("canvas")).to_be_visible()
            await it.page.reload()
        await expect(it.page.get_by_role("img", name="From request to answer")).to_be_visible()
        await expect(it.page.get_by_role("img", name="Attempts to deliver")).to_have_count(0)
        await it.page.get_by_role("button", name="Last 14 days").focus()
        await it.page.keyboard.press("Enter")
        delivered = it.page.get_by_role("img", name="Attempts to deliver")
        await expect(delivered).to_have_attribute("aria-label", re.compile("delivered: .*at most 2 a second"))
        waiting = it.page.get_by_role("img", name="Waiting, and dead letters")
        await expect(waiting).to_have_attribute("aria-label", re.compile("dead: 3 when it was last known, at most 3"))


async def test_what_the_charts_add_up_is_said_and_one_endpoint_can_be_chosen(
    browser: Browser, parts: Resources
) -> None:
    crm = (("deliveries", "crm", "delivered", 600), ("deliveries", "laravel", "delivered", 1800))
    await keep(parts, 1, 0.5 * HOUR, *crm, ("dead", "crm", "dead", 2), ("requests", "", "2xx", 600))
    await keep(parts, 2, 0.5 * HOUR, ("upstreams", HOSTILE, "answered", 60))
    async with served(parts) as http, looked(browser, str(http.base_url)) as it:
        delivered = it.page.get_by_role("img", name="Attempts to deliver")
        await expect(delivered).to_have_attribute("aria-label", re.compile("at most 240 a second"))
        choice = it.page.locator("#history select")
        await expect(choice.locator("option")).to_have_text(
            [
                "everything: endpoints, upstreams and limits are added up",
                "endpoint crm",
                "endpoint laravel",
                f"upstream {SHOWN}",
            ]
        )
        await choice.select_option(label="endpoint crm")
        await expect(delivered).to_have_attribute("aria-label", re.compile("at most 60 a second"))
        waiting = it.page.get_by_role("img", name="Waiting, and dead letters")
        await expect(waiting).to_have_attribute("aria-label", re.compile("at most 2"))
        await expect(it.page.get_by_role("img", name="Requests answered")).to_have_count(0)
        await choice.select_option(label="endpoint laravel")
        await expect(delivered).to_have_attribute("aria-label", re.compile("at most 180 a second"))
        await expect(waiting).to_have_count(0)
        await choice.select_option(index=3)
        await expect(it.page.get_by_role("img", name="Requests to upstreams")).to_be_visible()
        await expect(delivered).to_have_count(0)


async def test_a_chart_is_a_table_too_which_a_keyboard_opens(browser: Browser, url: str) -> None:
    async with looked(browser, url, width=360, dark=True) as it:
        one = it.page.locator(".over-time").filter(has_text="Requests answered")
        await one.get_by_text("As a table").focus()
        await it.page.keyboard.press("Enter")
        table = one.get_by_role("table", name="Requests answered")
        await expect(table.get_by_role("row")).to_have_count(1 + 2)
        await expect(table).to_contain_text("60 a second")
        wide = await it.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360


async def test_names_that_others_gave_are_text_in_a_chart(browser: Browser, url: str) -> None:
    async with looked(browser, url) as it:
        one = it.page.locator(".over-time").filter(has_text="Beyond a limit")
        await expect(one).to_contain_text("rejected")
        await it.page.get_by_role("button", name="Last 14 days").click()
        await expect(it.page.locator(".over-time").filter(has_text="Attempts to deliver")).to_contain_text(SHOWN)
        assert await it.page.locator("img").count() == 0
        assert await it.page.title() == "Overview · Sluice"


async def test_without_its_libraries_the_page_shows_the_same_as_tables(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    monkeypatch.setattr(libraries, "complete", lambda: False)
    parts = parts_on(store, policies_in(tmp_path))
    await fill(parts)
    async with served(parts) as client, looked(browser, str(client.base_url)) as it:
        table = it.page.get_by_role("table", name="Requests answered, a second")
        await expect(table).to_contain_text("60")
        await it.page.get_by_label("Each number is the highest of its time, in").select_option("14d")
        await expect(it.page.get_by_role("table", name="Attempts to deliver, a second")).to_contain_text("2")
        await expect(it.page.get_by_role("table", name="Attempts to deliver, a second")).to_contain_text(SHOWN)
