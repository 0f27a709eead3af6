"""How fast the page opens, and each of its views, by the clock of a real Chromium."""

from __future__ import annotations

from playwright.async_api import Browser, BrowserContext, Page

from tests.e2e.deployment import SECRETS
from tests.sluice.console.page.looking import looked

TOKEN = SECRETS["SLUICE_CONSOLE_TOKEN"]
VIEWS = {
    "waiting events": "#/deliveries/laravel?tab=waiting",
    "dead letters": "#/deliveries/laravel?tab=dead",
    "sessions": "#/sessions",
    "one session": "#/session/session-050000",
    "one event": "#/event/evt_000500000",
    "workers": "#/workers",
    "limits": "#/limits",
    "audit log": "#/audit",
}
_WHEN_USABLE = """new MutationObserver((_, watch) => {
    if (!document.getElementById("verdict")) return;
    watch.disconnect();
    requestAnimationFrame(() => { window.usableAfter = performance.now(); });
}).observe(document, { childList: true, subtree: true });"""
_USABLE_AFTER = """() => new Promise((known) => {
    const look = () => (window.usableAfter ? known(window.usableAfter) : setTimeout(look, 20));
    look();
})"""
_OPEN = """(view) => new Promise((opened) => {
    const began = performance.now();
    location.hash = view;
    const look = () => {
        const main = document.getElementById("content");
        if (window.atView === view && !main.textContent.includes("Looking…")) opened(performance.now() - began);
        else requestAnimationFrame(look);
    };
    addEventListener("hashchange", () => setTimeout(() => { window.atView = view; }, 0), { once: true });
    requestAnimationFrame(look);
})"""


async def opened(browser: Browser, url: str, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds from navigation to an Overview that can be used: with nothing kept, and by who was there before."""
    first, again = [], []
    async with looked(browser, url, token=TOKEN) as known:
        login = await known.page.context.storage_state()
    for _ in range(times):
        context = await browser.new_context(storage_state=login)
        await context.add_init_script(_WHEN_USABLE)
        first.append(await _open(context, url))
        again.append(await _open(context, url))
        await context.close()
    return first, again


async def _open(context: BrowserContext, url: str) -> float:
    page = await context.new_page()
    await page.goto(f"{url}/_sluice/")
    after = float(await page.evaluate(_USABLE_AFTER))
    await page.close()
    return after


async def views(browser: Browser, url: str, times: int) -> dict[str, list[float]]:
    """Milliseconds from the click on a view until all that it loads is there."""
    found: dict[str, list[float]] = {name: [] for name in VIEWS}
    async with looked(browser, url, token=TOKEN) as it:
        await it.page.wait_for_selector("#verdict")
        for _ in range(times):
            for name, view in VIEWS.items():
                await _overview(it.page)
                found[name].append(float(await it.page.evaluate(_OPEN, view)))
    return found


async def _overview(page: Page) -> None:
    await page.evaluate("() => { location.hash = '#/overview'; }")
    await page.wait_for_selector("#verdict")
