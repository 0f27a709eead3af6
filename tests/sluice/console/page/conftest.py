from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from sluice.console.page import libraries
from tests.sluice.console.page.looking import chromium


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests of a module; each looks in a context of its own."""
    await asyncio.to_thread(libraries.install)
    async with chromium() as browser:
        yield browser
