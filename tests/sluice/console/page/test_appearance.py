"""What every view looks like, with much to show and with the text of strangers in it: wide and narrow, light and dark.

The pictures stay in build/screenshots, for whoever changes the page. A view that is added to the page's navigation is
looked at, too.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from sluice.store.client import Store
from tests.sluice.console.page import axe
from tests.sluice.console.page.filled import HOSTILE, filled
from tests.sluice.console.page.looking import Looked, looked
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PICTURES = Path(__file__).parents[4] / "build" / "screenshots"
BELOW = {
    "endpoint": "#/deliveries/laravel?tab=dead",
    "find": "#/deliveries?tab=find",
    "event": "#/event/evt_dead_0",
    "session": "#/session/shop-1",
    "vault": "#/vault",
}
"""Views that no link of the navigation leads to."""
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SPOKEN = """() => [...document.querySelectorAll("*")].flatMap((one) =>
    [...one.attributes].filter(({ name }) => name === "title" || name === "placeholder" || name.startsWith("aria-"))
    .map(({ value }) => value))"""
_TOO_WIDE = """() => [document.documentElement, ...document.querySelectorAll("main, main table, main section")]
    .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML.slice(0, 200))"""
"""What hides some of itself, or can be seen only by scrolling sideways."""


@pytest.fixture
async def url(store: Store, tmp_path: Path) -> AsyncIterator[str]:
    async with served(await filled(store, tmp_path)) as client:
        yield str(client.base_url)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
async def test_each_view_is_seen_by_everybody_and_shows_text_as_text(
    browser: Browser, url: str, width: int, dark: bool
) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    async with looked(browser, url, width=width, dark=dark) as it:
        await expect(it.page.locator("#verdict")).to_be_visible()
        for name, view in (await _views(it.page)).items():
            await _open(it, view)
            await it.page.screenshot(
                path=PICTURES / f"{name}-{width}-{'dark' if dark else 'light'}.png", full_page=True
            )
            assert await it.page.evaluate(_TOO_WIDE) == [], name
            assert await _steering(it.page) == [], name
            # What is wrong at one width in one theme hardly ever is in order in the other.
            if (width == 360) == dark:
                assert await axe.faults(it.page) == [], name


async def test_what_is_asked_before_something_is_done_is_seen_by_everybody(browser: Browser, url: str) -> None:
    async with looked(browser, url) as it:
        await _open(it, BELOW["endpoint"])
        await it.page.get_by_role("button", name="Replay what is found…").click()
        await expect(it.page.get_by_role("dialog").get_by_role("button", name="Replay")).to_be_enabled()
        assert await axe.faults(it.page) == []
        assert await _steering(it.page) == []
    async with looked(browser, url, token=None) as it:
        await expect(it.page.get_by_label("The value of")).to_be_visible()
        assert await axe.faults(it.page) == []


async def test_whoever_has_no_mouse_reaches_everything_by_keyboard(browser: Browser, url: str) -> None:
    async with looked(browser, url) as it:
        await expect(it.page.locator("#verdict")).to_be_visible()
        await it.page.keyboard.press("Tab")
        await expect(it.page.get_by_role("link", name="To the content")).to_be_focused()
        await it.page.keyboard.press("Enter")
        await expect(it.page.locator("#content")).to_be_focused()
        await it.page.get_by_role("navigation").get_by_role("link", name="Deliveries").focus()
        await it.page.keyboard.press("Enter")
        await expect(it.page.get_by_role("tab", name="Dead letters")).to_be_visible()
        await it.go(BELOW["endpoint"])
        await it.page.get_by_role("button", name="Probe…").focus()
        await it.page.keyboard.press("Enter")
        await expect(it.page.get_by_role("dialog")).to_be_visible()
        await it.page.keyboard.press("Escape")
        await expect(it.page.get_by_role("dialog")).to_have_count(0)
        await expect(it.page.get_by_role("button", name="Probe…")).to_be_focused()


async def _views(page: Page) -> dict[str, str]:
    links = (
        await page.get_by_role("navigation")
        .get_by_role("link")
        .evaluate_all("(links) => links.map((one) => one.getAttribute('href'))")
    )
    assert len(links) >= 6
    return {**{link.removeprefix("#/"): link for link in links}, **BELOW}


async def _open(it: Looked, view: str) -> None:
    """And waits until all that it loads is there."""
    await it.go(view)
    await expect(it.page.get_by_text("Looking…")).to_have_count(0)


async def _steering(page: Page) -> list[str]:
    """What a stranger's text has changed: markup that it became, or characters that reorder or hide others."""
    said = [await page.locator("body").inner_text(), await page.title(), *await page.evaluate(_SPOKEN)]
    assert await page.title() != "1"
    assert await page.locator("img").count() == 0
    return [text for text in said if STEERING.search(text) or HOSTILE in text]
