"""A person at the page, in a real Chromium. What the page must never do fails the test: an error in the browser's
console, or a request to any other host."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.sluice.console.deployment import TOKEN

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_WITHIN = 30_000.0  # milliseconds
expect.set_options(timeout=_WITHIN)
_EXPECTED = ("401 (Unauthorized)", "403 (Forbidden)", "404 (Not Found)", "409 (Conflict)", "400 (Bad Request)")
"""A refusal is an answer, though Chromium calls it an error."""


@dataclass
class Looked:
    page: Page
    wrong: list[str] = field(default_factory=list)

    async def go(self, view: str) -> None:
        await self.page.evaluate("(view) => { location.hash = view; }", view)


Look = Callable[..., AbstractAsyncContextManager[Looked]]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert executable, "install a Chromium: the page is looked at in a real browser"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(FLAGS), timeout=60_000)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def looked(
    browser: Browser, url: str, *, token: str | None = TOKEN, width: int = 1440, dark: bool = False, view: str = ""
) -> AsyncIterator[Looked]:
    """The page, logged in with the token; None: at the form."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = await context.new_page()
    page.set_default_timeout(_WITHIN)
    it = Looked(page)
    own = urlsplit(url).netloc
    page.on("pageerror", lambda error: it.wrong.append(f"error: {error}"))
    page.on("console", lambda said: it.wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda asked: None if _is_own(asked.url, own) else it.wrong.append(f"outside: {asked.url}"))
    try:
        await page.goto(f"{url}/_sluice/" + (f"#token={token}" if token else ""))
        if token:
            await expect(page.get_by_role("status").first).to_be_attached()
        if view:
            await it.go(view)
        yield it
    finally:
        await context.close()
    assert [one for one in it.wrong if not any(status in one for status in _EXPECTED)] == []


def _is_own(url: str, own: str) -> bool:
    return urlsplit(url).netloc == own or url.startswith("data:")
