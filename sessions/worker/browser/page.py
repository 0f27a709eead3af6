"""WhatsApp Web in a browser, with the library and our bridge injected before anything of the page runs.

goto ──▶ injected ──▶ it tells how it stands, and is asked things
           ▲   └── the page loads anew: unpaired every 20 s, once after a fresh pairing, at its updates
           └────── injected anew by itself; a call that falls into it is asked again
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import orjson

from sessions.worker.browser.chromium import Chromium
from sessions.worker.browser.errors import BrowserGone, BrowserHangs, PageRefused
from sluice.http import foreign_json
from sluice.observe.log import Log

LOG = Log("sessions.browser")
Listener = Callable[[str, Mapping[str, Any]], None]
URL = "https://web.whatsapp.com/"
_LOADS_WITHIN, _READY_WITHIN, _ANSWERS_WITHIN = 60.0, 120.0, 20.0
_AGAIN = 0.2
_MAX_TOLD = 2**20
_NAVIGATES = ("Execution context was destroyed", "Cannot find context", "navigat")
_CONFIG = "window.WPPConfig = {disableGoogleAnalytics: true, linkPreviewApiServers: [], sendStatusToDevice: false};"
_IS_READY = "() => Boolean(window.WPP && WPP.isReady && window.sluice)"
_CALL = """async ([name, args]) => {
  try { return {answer: await window.sluice[name](...args)}; }
  catch (error) { return {refused: String((error && (error.message || error.code)) || error).slice(0, 500)}; }
}"""


class WebPage:
    """`listener(event, data)` is called with all that `bridge.js` tells, in its order, from inside the event loop."""

    def __init__(self, browser: Chromium, listener: Listener) -> None:
        self._browser = browser
        self._listener = listener

    async def open(self, wa_js: str) -> None:
        """Until the page is ready to be asked. Raises BrowserGone, of which BrowserHangs is one."""
        page, within = self._browser.page, self._browser.within
        bridge = (files("sessions.worker.browser") / "bridge.js").read_text(encoding="utf-8")
        await within(_ANSWERS_WITHIN, page.expose_binding("sluiceTells", self._take), "to be told of events")
        for script in (_CONFIG, wa_js, bridge):
            await within(_ANSWERS_WITHIN, page.add_init_script(script), "to inject")
        await within(_LOADS_WITHIN, page.goto(URL, wait_until="domcontentloaded", timeout=0), f"to load {URL}")
        await self.ready()

    async def ready(self) -> None:
        ready = self._browser.page.wait_for_function(_IS_READY, timeout=0)
        try:
            await self._browser.within(_READY_WITHIN, ready, "to get ready")
        except BrowserHangs:
            raise BrowserHangs(
                f"the page was not ready within {_READY_WITHIN:g} s: the machine is too busy, or WhatsApp Web has "
                "changed and needs a newer wa-js"
            ) from None

    async def ask(self, name: str, *args: Any, within: float = _ANSWERS_WITHIN) -> Any:
        """What a function of `window.sluice` answers. Raises PageRefused, and BrowserGone.

        Only what the page began is not asked again: a navigation before that changes nothing.
        """
        until = time.monotonic() + within
        while True:
            left = until - time.monotonic()
            try:
                answer = await self._browser.within(left, self._evaluate(name, args), name)
            except BrowserHangs:
                raise
            except BrowserGone as gone:
                if self._browser.ended.is_set() or not any(part in str(gone) for part in _NAVIGATES):
                    raise
                if name in _ONCE or time.monotonic() + _AGAIN > until:
                    raise BrowserHangs(f"the page was loading anew, and did not answer ({name})") from None
                await asyncio.sleep(_AGAIN)
                continue
            if "refused" in answer:
                raise PageRefused(answer["refused"])
            return answer.get("answer")

    async def _evaluate(self, name: str, args: tuple[Any, ...]) -> dict[str, Any]:
        page = self._browser.page
        await page.wait_for_function(_IS_READY, timeout=0)
        found: dict[str, Any] = await page.evaluate(_CALL, [name, list(args)])
        return found

    def _take(self, source: Any, text: object) -> None:
        """Whatever runs in the page can call it."""
        if not isinstance(text, str) or len(text) > _MAX_TOLD:
            return
        try:
            found = foreign_json.loads(text.encode("utf-8", "replace"))
        except (ValueError, orjson.JSONDecodeError):
            return
        if isinstance(found, dict) and isinstance(found.get("event"), str) and isinstance(found.get("data"), dict):
            self._listener(found["event"], found["data"])


_ONCE = frozenset({"sendText", "sendFile", "logout", "pairing"})
"""What must not be done twice: when it is not known whether the page has begun, that is what is said."""
