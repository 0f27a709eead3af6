"""What a person does with a session in a real browser; its worker answers the contract's calls on a real port. A code
that is scanned: `tests/e2e/test_console.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from gateway.policies import edits
from gateway.resources import Resources
from sessions.existing import ExistingWorkers
from sessions.policies import ExistingWorker
from sessions.registry import Registry, Worker
from sluice.config.model import Secret
from sluice.console.actions.session_creating import CreatedSession, CreateSession, create
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.sluice.console.contract_worker import ContractWorker, serving
from tests.sluice.console.deployment import VAULT_KEY, parts_on, policies_in
from tests.sluice.console.page.looking import Looked, looked
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONSOLE = "console: {token: env:TOKEN, read: env:VAULT_KEY}\n"


@pytest.fixture
def parts(store: Store, tmp_path: Path) -> Resources:
    """With a lease that lasts as long as a test."""
    return parts_on(store, policies_in(tmp_path, CONSOLE))


@asynccontextmanager
async def watched(parts: Resources) -> AsyncIterator[tuple[Resources, ContractWorker]]:
    """The policies name an existing worker, n1, and it is looked at the whole time."""
    async with serving(ContractWorker(key="node-key")) as node:
        known = ExistingWorker(node.url, Secret(b"node-key"), name="n1")
        sessions = replace(parts.policies.sessions, workers=(known,))
        watch, stop = ExistingWorkers(Registry(parts.store, 3.0), [known], 5), Stop()
        await watch.run_once()
        watching = asyncio.create_task(watch.run(stop))
        try:
            policies = replace(parts.policies, sessions=sessions)
            yield replace(parts, policies=policies, live=edits.live(policies)), node
        finally:
            stop.request()
            await watching


async def created(parts: Resources, session: str) -> None:
    assert isinstance(await create(parts, CreateSession(session, "7")), CreatedSession)


async def confirmed(it: Looked, button: str, says: str, verb: str) -> None:
    """The button asks, says what would be done, and does it."""
    await it.page.get_by_role("button", name=button).click()
    await expect(it.page.get_by_role("dialog")).to_contain_text(says)
    await it.page.get_by_role("dialog").get_by_role("button", name=verb).click()


async def test_a_phone_is_paired_by_a_code_and_the_session_logged_out(browser: Browser, parts: Resources) -> None:
    async with (
        serving(ContractWorker(ours=True)) as ours,
        served(parts) as http,
        looked(browser, str(http.base_url)) as it,
    ):
        await parts.registry.register(Worker("w1", "1", ours.url, 5))
        await created(parts, "shop-1")
        await it.go("#/session/shop-1")
        await it.page.get_by_role("button", name="Pairing code…").click()
        await it.page.get_by_label("Phone number, with").fill("+49 (170) 123-45")
        await it.page.get_by_role("button", name="Ask for a code").click()
        await expect(it.page.get_by_text("Type ABCD-1234 into the phone")).to_be_visible()
        assert ours.asked[-1][2] == {"phone_number": "+4917012345"}
        await confirmed(it, "Restart…", "w1 closes its browser and opens it anew with its login", "Restart it")
        await expect(it.page.get_by_text("w1 restarts it with its next beat.")).to_be_visible()
        await confirmed(it, "Log out…", "w1 has WhatsApp unlink it. It needs a new QR code then.", "Log it out")
        await expect(it.page.get_by_text("w1 has logged it out.")).to_be_visible()
        assert "shop-1" not in ours.sessions


async def test_a_session_is_deleted_by_the_keyboard_alone_and_what_is_refused_is_told_as_text(
    browser: Browser, parts: Resources
) -> None:
    async with watched(parts) as (parts, node), served(parts) as http, looked(browser, str(http.base_url)) as it:
        await created(parts, "shop-1")
        await it.go("#/session/shop-1")
        delete = it.page.get_by_role("button", name="Delete…")
        await expect(delete).to_be_visible()
        node.refuses = (500, {"error": "<img src=x onerror=alert(1)>\u202e"})
        await delete.focus()
        await it.page.keyboard.press("Enter")
        dialog = it.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("n1 closes it, as when Laravel deletes it.")
        await it.page.keyboard.press("Tab")
        await it.page.keyboard.press("Enter")
        await expect(dialog.get_by_role("alert")).to_contain_text(
            "it answered 500 <img src=x onerror=alert(1)>\\u202e;"
        )
        await it.page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        node.refuses = None
        await expect(delete).to_be_focused()
        await it.page.keyboard.press("Enter")
        await expect(dialog.get_by_role("button", name="Delete it")).to_be_enabled()
        await it.page.keyboard.press("Tab")
        await it.page.keyboard.press("Enter")
        await expect(it.page.get_by_text("It is deleted.")).to_be_visible()
        assert "shop-1" not in node.sessions


async def test_who_may_only_look_sees_neither_the_code_nor_a_button_that_changes(
    browser: Browser, parts: Resources
) -> None:
    async with watched(parts) as (parts, _), served(parts) as http:
        await created(parts, "shop-1")
        async with looked(browser, str(http.base_url), token=VAULT_KEY, view="#/session/shop-1") as it:
            await expect(it.page.locator("#session")).to_have_text("shop-1")
            await expect(it.page.get_by_text("may only look")).to_be_visible()
            await expect(it.page.get_by_role("button", name="…")).to_have_count(0)
            await expect(it.page.locator("img")).to_have_count(0)
            told = await it.page.evaluate("fetch('api/qr/shop-1').then((answer) => answer.json())")
            assert told["detail"].startswith("console.read may not see this")
