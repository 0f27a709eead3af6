"""What an operator does besides: logins in the vault, a worker that is emptied, and a test event that arrives; in a
real browser, with a real relay and receiver."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from gateway.policies import Policies, edits
from gateway.resources import Resources
from relay import process as relay_process
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.vault import Saved
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.relay.receiver import receiver
from tests.sessions.making import beat, register, run, worker
from tests.sessions.profiles.making import profile
from tests.sluice.console.deployment import CONSOLE, VAULT, parts_on, policies_in
from tests.sluice.console.page.looking import looked
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SIGNATURE = "signatures: {laravel: {preset: blazz, secret: env:VAULT_KEY}}\n"


def parts_with(store: Store, folder: Path, more: str = CONSOLE) -> Resources:
    """With a lease that lasts as long as a test."""
    return parts_on(store, policies_in(folder, more))


def signing(policies: Policies, url: str) -> Policies:
    """Its endpoint is there, and what it gets is signed."""
    laravel = replace(policies.relay.endpoints["laravel"], url=url, sign="laravel")
    return replace(policies, relay=replace(policies.relay, endpoints={"laravel": laravel}))


def often_saved(parts: Resources) -> Resources:
    """A login is to be saved each second, so it is stale after three."""
    sessions = parts.policies.sessions
    assert sessions.vault is not None
    policies = replace(parts.policies, sessions=replace(sessions, vault=replace(sessions.vault, every=1.0)))
    return replace(parts, policies=policies, live=edits.live(policies))


async def test_logins_are_listed_with_what_is_stale_and_one_is_deleted_and_taken_back(
    browser: Browser, store: Store, tmp_path: Path
) -> None:
    parts = often_saved(parts_with(store, tmp_path, CONSOLE + VAULT))
    assert parts.policies.sessions.vault is not None
    await register(parts.registry, "w1")
    held = await run(parts.registry, "w1", "shop-1")
    vault = open_vault(parts.policies.sessions.vault, parts.store)
    fence = (await vault.generations.claim("shop-1")).fence
    saved = await vault.save("shop-1", fence, profile(tmp_path / "profile", size=1000), Origin())
    assert isinstance(saved, Saved)
    await beat(parts.registry, "w1", held)
    async with served(parts) as http, looked(browser, str(http.base_url), view="#/vault") as it:
        row = it.page.get_by_role("row").nth(1)
        await expect(row).to_contain_text("shop-1")
        await expect(row).to_contain_text("1 of 1")

        async def is_stale() -> bool:
            await it.page.get_by_role("button", name="Look again").click()
            return "stale: connected, and not saved" in await row.inner_text()

        async with asyncio.timeout(30):
            while not await is_stale():
                await asyncio.sleep(0.5)
        await it.page.get_by_role("button", name="Prune…").click()
        await expect(it.page.get_by_role("dialog")).to_contain_text("are erased for good: 0 generations of 0 sessions")
        await it.page.keyboard.press("Escape")
        await it.page.get_by_role("link", name="shop-1").click()
        await expect(it.page.get_by_text("It is stale")).to_be_visible()
        await it.page.get_by_role("button", name="Delete the login…").click()
        await expect(it.page.get_by_role("dialog")).to_contain_text("1 generation is kept until the vault is pruned")
        await it.page.get_by_role("button", name="Delete it", exact=True).click()
        await expect(it.page.get_by_text("Its login is deleted.")).to_be_visible()
        await it.page.get_by_role("button", name="Take back the deletion…").click()
        await expect(it.page.get_by_role("dialog")).to_contain_text("generation 1, saved")
        await it.page.get_by_role("button", name="Take it back").click()
        await expect(it.page.get_by_text("Its login is back.")).to_be_visible()


async def test_a_worker_is_drained_and_taken_back(browser: Browser, store: Store, tmp_path: Path) -> None:
    parts = parts_with(store, tmp_path)
    await register(parts.registry, "w1")
    await run(parts.registry, "w1", "s1", "s2")
    await parts.registry.register(worker("w2", capacity=1))
    async with served(parts) as http, looked(browser, str(http.base_url), view="#/workers") as it:
        row = it.page.get_by_role("table", name="Workers", exact=True).get_by_role("row").filter(has_text="w1")
        await row.get_by_role("button", name="Drain…").click()
        dialog = it.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("gives its 2 sessions to others, two at a time")
        await expect(dialog).to_contain_text("The others have room for 1")
        await dialog.get_by_role("button", name="Drain it").click()
        await expect(it.page.get_by_text("w1 drains.")).to_be_visible()
        await row.get_by_role("button", name="Take back…").click()
        await expect(dialog).to_contain_text("It gets sessions again.")
        await dialog.get_by_role("button", name="Take it back").click()
        await expect(it.page.get_by_text("w1 gets sessions again.")).to_be_visible()
        await expect(row.get_by_role("button", name="Drain…")).to_be_visible()


async def test_a_test_event_is_sent_signed_and_seen_to_arrive(
    browser: Browser, store: Store, store_url: str, tmp_path: Path
) -> None:
    async with receiver() as laravel:
        policies = signing(policies_in(tmp_path, CONSOLE + SIGNATURE), laravel.url)
        parts, stop = parts_on(store, policies), Stop()
        relaying = asyncio.create_task(relay_process.run(edits.live(policies), store_url, stop))
        try:
            async with served(parts) as http, looked(browser, str(http.base_url), view="#/try") as it:
                await it.page.get_by_label("Path behind its url").fill("/hooks")
                await it.page.get_by_role("button", name="Send a test event…").click()
                dialog = it.page.get_by_role("dialog")
                await expect(dialog).to_contain_text(f"This goes to {laravel.url}/hooks, signed")
                await expect(dialog.get_by_role("region", name="Body")).to_contain_text('"event":"sluice_test"')
                assert laravel.got == []
                await dialog.get_by_role("button", name="Send it").click()
                await expect(it.page.locator(".state")).to_have_text("delivered")
                await expect(it.page.get_by_role("table", name="Attempts at laravel")).to_contain_text("200")
                await it.page.get_by_role("link", name="Everything about it").click()
                await expect(it.page.get_by_text("sluice_test")).to_be_visible()
        finally:
            stop.request()
            await relaying
        (got,) = laravel.got
        assert got.line.startswith(b"POST /hooks ")
        assert got.all("X-HMAC-Signature")
