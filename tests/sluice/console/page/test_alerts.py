"""Alerts on the page: what is wrong by the rules, a test of a receiver, silences; with a real webhook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from gateway.alerts.engine import Engine, open_engine
from gateway.policies import load
from gateway.resources import Resources
from sluice.console.alerting import observe
from sluice.store.client import Store
from tests.gateway.alerts.sinks import Sink, webhook
from tests.sluice.console.deployment import TOKEN, VAULT_KEY, parts_on
from tests.sluice.console.page.looking import looked
from tests.sluice.console.test_acting import bury
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
HOSTILE = '<img src=x onerror="document.title=1">\u202e'
SHOWN = '<img src=x onerror="document.title=1">\\u202e'
POLICIES = """
version: 1
console: {token: env:TOKEN, read: env:READ}
relay: {endpoints: {laravel: {url: "http://127.0.0.1:1"}}}
alerts:
  receivers: {chat: {webhook: env:HOOK}, away: {webhook: env:AWAY}}
  rules:
    - {when: dead_letters, for: none, to: chat}
    - {when: circuit_open, for: none, only: [larvel], to: chat}
"""


@dataclass
class World:
    parts: Resources
    sink: Sink
    engine: Engine
    url: str

    async def look(self) -> None:
        """As the gateway does it every few seconds."""
        await self.engine.run_once()
        await asyncio.gather(*(lane.task for lane in self.engine._lanes.values() if lane.task is not None))


@pytest.fixture
async def world(store: Store, tmp_path: Path) -> AsyncIterator[World]:
    async with webhook() as sink:
        file = tmp_path / "policies.yaml"
        file.write_text(POLICIES)
        secrets = {"TOKEN": TOKEN, "READ": VAULT_KEY, "HOOK": sink.url, "AWAY": "http://127.0.0.1:1/"}
        parts = parts_on(store, load(file, environment=secrets))
        engine = open_engine(
            store, "gateway-1", lambda: parts.policies, lambda: observe(parts), lambda: observe(parts, here=True)
        )
        async with served(parts) as client:
            yield World(parts, sink, engine, str(client.base_url))
        await engine._end()


async def test_what_is_wrong_leads_to_its_cure_and_is_silenced_and_told_again(browser: Browser, world: World) -> None:
    await bury(world.parts, "evt_1")
    await world.look()
    async with looked(browser, world.url, view="#/alerts") as it:
        page = it.page
        wrong = page.get_by_role("table", name="Wrong by the rules")
        await expect(wrong).to_contain_text("endpoint laravel: 1 dead letter waits for a person")
        await expect(wrong.get_by_role("row", name="dead_letters of laravel")).to_contain_text("chat, ")
        await expect(page.get_by_role("table", name="What was told last")).to_contain_text("dead_letters of laravel")
        await expect(page.get_by_role("row", name="circuit_open")).to_contain_text("larvel")
        await expect(wrong.get_by_role("link", name="Dead letters")).to_have_attribute(
            "href", "#/deliveries/laravel?tab=dead"
        )
        await wrong.get_by_role("button", name="Silence…").focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("combobox", name="For").select_option("30 minutes")
        await page.get_by_label("Why, for whoever looks at it").fill(HOSTILE)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Silenced until")).to_be_visible()
        silences = page.get_by_role("table", name="Silences")
        await expect(silences).to_contain_text(SHOWN)
        await expect(wrong).to_contain_text("silenced")
        await silences.get_by_role("button", name="End…").click()
        await page.get_by_role("button", name="End the silence").click()
        await expect(page.get_by_text("Nothing is silenced.")).to_be_visible()
        await page.get_by_role("button", name="Silence alerts…").click()
        await page.get_by_role("combobox", name="What").select_option("circuit_open")
        await page.get_by_label("Of, a name or glob").fill("lar*")
        await page.get_by_role("button", name="Silence it").click()
        await expect(silences.get_by_role("row", name="circuit_open")).to_contain_text("of lar*")
        assert await page.locator("img").count() == 0
        await it.go("#/audit")
        await expect(page.get_by_role("table", name="Audit log")).to_contain_text("unsilence_alerts")


async def test_a_test_says_who_has_taken_it_and_why_another_has_not(browser: Browser, world: World) -> None:
    async with looked(browser, world.url, view="#/alerts", width=360, dark=True) as it:
        await it.page.get_by_role("row", name="chat webhook").get_by_role("button", name="Test…").click()
        await it.page.get_by_role("button", name="Send it").click()
        await expect(it.page.get_by_text("chat: taken")).to_be_visible()
        assert [message["kind"] for message in world.sink.messages] == ["test"]
        await it.page.get_by_role("button", name="Test all…").click()
        await it.page.get_by_role("button", name="Send it").click()
        await expect(it.page.get_by_text("away: not taken")).to_be_visible()
        assert await it.page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_who_may_only_look_silences_nothing(browser: Browser, world: World) -> None:
    await bury(world.parts, "evt_1")
    await world.look()
    async with looked(browser, world.url, token=VAULT_KEY, view="#/alerts") as it:
        await expect(it.page.get_by_role("table", name="Wrong by the rules")).to_contain_text("dead letter waits")
        await expect(it.page.get_by_role("button", name="…")).to_have_count(0)
