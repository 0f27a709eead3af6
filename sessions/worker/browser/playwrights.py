"""Playwright's own process, which all browsers of a worker share: when it ends, they end with it, and another one is
started for the next of them."""

from __future__ import annotations

import asyncio
import contextlib

from playwright.async_api import Error, Playwright, async_playwright

from sluice.observe.log import Log

LOG = Log("sessions.browser")
_ANSWERS_WITHIN, _ENDS_WITHIN = 10.0, 5.0


class Playwrights:
    def __init__(self) -> None:
        self._runs: Playwright | None = None
        self._one_at_a_time = asyncio.Lock()

    async def get(self) -> Playwright:
        """One that answers."""
        async with self._one_at_a_time:
            if self._runs is not None and not await _answers(self._runs):
                LOG.error("playwright.ended")
                await self.close()
            if self._runs is None:
                self._runs = await async_playwright().start()
            return self._runs

    async def close(self) -> None:
        runs, self._runs = self._runs, None
        if runs is not None:
            with contextlib.suppress(TimeoutError, Error):
                async with asyncio.timeout(_ENDS_WITHIN):
                    await runs.stop()


async def _answers(playwright: Playwright) -> bool:
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN):
            await (await playwright.request.new_context()).dispose()
    except Exception:  # noqa: BLE001 (it raises plain ones when its pipe is closed)
        return False
    return True
