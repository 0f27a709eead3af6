"""A code that a person types into their phone, instead of one that it scans."""

from __future__ import annotations

from sessions.worker.browser.errors import BrowserGone, PageRefused
from sessions.worker.browser.page import WebPage
from sessions.worker.login import NotConnected, SendRefused


async def pairing_code(page: WebPage | None, state: str, phone: str) -> str:
    """Of a page that shows a code, as `state` says. Raises NotConnected, SendRefused."""
    if page is None or state != "qr_scanning":
        raise NotConnected(f"the session is {state}: a phone is paired while it shows a code")
    try:
        return str(await page.ask("pairing", phone))
    except PageRefused as refused:
        raise SendRefused(str(refused)) from None
    except BrowserGone as gone:
        raise NotConnected(str(gone)) from None
