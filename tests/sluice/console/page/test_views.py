"""Each view of the page in a real browser, as a person works with it; the deployment behind it is real, its relay is
not running, so that nothing moves by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from gateway.resources import Resources
from relay import presence
from sessions.registry import Worker
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.sessions.making import place
from tests.sluice.console.deployment import TOKEN, VAULT_KEY, parts_on, policies_in
from tests.sluice.console.page.looking import Looked, looked
from tests.sluice.console.test_acting import bury
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HOSTILE = '<img src=x onerror="document.title=1">\u202e\x1b[2J"\'&amp;'
SHOWN = '<img src=x onerror="document.title=1">\\u202e\\u001b[2J"\'&amp;'


@pytest.fixture
async def url(parts: Resources) -> AsyncIterator[str]:
    await presence.report(parts.store, "relay-1")
    async with served(parts) as client:
        yield str(client.base_url)


@pytest.fixture
async def it(browser: Browser, url: str) -> AsyncIterator[Looked]:
    async with looked(browser, url) as it:
        yield it


async def test_a_wrong_token_is_told_and_the_right_one_opens_until_logout(browser: Browser, url: str) -> None:
    async with looked(browser, url, token=None) as it:
        token = it.page.get_by_label("The value of")
        await token.fill("guessed")
        await it.page.get_by_role("button", name="Open").click()
        await expect(it.page.get_by_role("alert")).to_have_text("The gateway does not know this token.")
        await token.fill(TOKEN)
        await token.press("Enter")
        await expect(it.page.locator("#verdict")).to_have_text("All is well")
        await it.page.reload()
        await expect(it.page.locator("#verdict")).to_have_text("All is well")
        assert TOKEN not in await it.page.evaluate(
            "JSON.stringify([location.href, {...localStorage}, document.cookie])"
        )
        await it.page.get_by_role("button", name="Log out").click()
        await expect(token).to_be_visible()


async def test_what_is_wrong_leads_to_its_cure(it: Looked, parts: Resources) -> None:
    await bury(parts, "evt_1", body=b'{"to":"49170"}')
    await expect(it.page.locator("#messages")).to_contain_text("laravel: 1 dead letter waits for a person")
    await it.page.get_by_role("link", name="Dead letters").first.click()
    await expect(it.page.get_by_role("tab", name="Dead letters")).to_have_attribute("aria-selected", "true")
    await it.page.get_by_role("link", name="evt_1").click()
    await expect(it.page.get_by_role("region", name="Body")).to_contain_text('"to": "49170"')
    await it.page.get_by_role("button", name="Replay…").click()
    await it.page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    await expect(it.page.get_by_text("1 event: replayed.")).to_be_visible()
    await expect(it.page.locator(".state").first).to_have_text("waiting")
    await it.go("#/overview")
    await expect(it.page.locator("#verdict")).to_be_visible()
    await expect(it.page.locator("#messages")).not_to_contain_text("dead letter")


async def test_many_are_replayed_after_a_look_at_which_they_are(it: Looked, parts: Resources) -> None:
    for number in range(3):
        await bury(parts, f"evt_{number}", session=f"s{number % 2}")
    await it.go("#/deliveries?tab=dead")
    await expect(it.page.get_by_role("row")).to_have_count(2 + 1 + 3)
    await it.page.get_by_label("Session").fill("s0")
    await it.page.get_by_role("button", name="Filter").click()
    await expect(it.page.get_by_role("link", name="evt_1")).to_have_count(0)
    await it.page.get_by_role("button", name="Replay what is found…").click()
    await expect(it.page.get_by_role("dialog")).to_contain_text("2 message_received for laravel: answered 422: no")
    await it.page.keyboard.press("Escape")
    await expect(it.page.get_by_role("dialog")).to_have_count(0)
    await it.page.get_by_label("Choose evt_2").check()
    await it.page.get_by_role("button", name="Drop 1…").click()
    await it.page.get_by_role("dialog").get_by_role("button", name="Drop").click()
    await expect(it.page.get_by_text("1 event: dropped.")).to_be_visible()
    assert (await parts.queues["laravel"].counts()).dead == 2


async def test_an_event_that_waits_says_why_and_is_skipped(it: Looked, parts: Resources) -> None:
    await accept(parts.queues["laravel"], event("s1", id="evt_1"))
    await accept(parts.queues["laravel"], event("s1", id="evt_2"))
    await it.go("#/deliveries?tab=find")
    await it.page.get_by_label("Id").fill("evt_2")
    await it.page.get_by_role("button", name="Find", exact=True).click()
    await expect(it.page.get_by_text("Older ones of its session")).to_be_visible()
    await it.page.get_by_role("link", name="evt_1").click()
    await it.page.get_by_role("button", name="Skip…").click()
    await it.page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    await expect(it.page.get_by_text("1 event: skipped.")).to_be_visible()


async def test_a_circuit_is_held_with_a_reason_and_released_and_the_audit_log_has_it(it: Looked) -> None:
    await it.go("#/deliveries/laravel")
    await it.page.get_by_role("button", name="Hold open…").click()
    await it.page.get_by_label("Why, for whoever looks at it").fill("moving")
    await it.page.get_by_role("button", name="Hold it").click()
    await expect(it.page.get_by_text("held open by a person")).to_be_visible()
    await it.page.get_by_role("button", name="Probe…").click()
    await it.page.get_by_role("button", name="Send one event").click()
    await expect(it.page.get_by_text("Nothing waits that could be sent.")).to_be_visible()
    await it.page.get_by_role("button", name="Release…").click()
    await it.page.get_by_role("button", name="Release it").click()
    await expect(it.page.get_by_text("laravel is released.")).to_be_visible()
    await it.go("#/audit")
    await expect(it.page.get_by_role("row").nth(1)).to_contain_text("hold_circuit")
    await expect(it.page.get_by_role("row").last).to_contain_text("endpoint: laravel, hold: open, why: moving")
    await expect(it.page.get_by_role("row").last).to_contain_text("127.0.0.1, by page")


async def test_a_session_is_found_seen_and_released(it: Looked, parts: Resources) -> None:
    await parts.registry.register(Worker("w1", "1", "http://127.0.0.1:3101", 5))
    await place(parts.registry, "shop-1", {"workspace_id": 7})
    await parts.registry.want({f"other-{number}": {} for number in range(30)})
    await it.go("#/sessions")
    await it.page.get_by_label("Name or phone has").fill("SHOP")
    await it.page.get_by_role("button", name="Search").click()
    await expect(it.page.get_by_role("row")).to_have_count(2)
    await it.page.get_by_role("link", name="shop-1").click()
    await expect(it.page.locator(".facts")).to_contain_text("http://127.0.0.1:3101")
    await it.page.get_by_role("button", name="Release…").click()
    await expect(it.page.get_by_role("dialog")).to_contain_text("That worker stops it first")
    await it.page.get_by_role("button", name="Release it").click()
    await expect(it.page.get_by_text("Any worker of yours may run it now.")).to_be_visible()
    await it.page.get_by_role("button", name="Forget…").click()
    await it.page.get_by_role("button", name="Forget it").click()
    await expect(it.page.get_by_text("It is forgotten.")).to_be_visible()


async def test_buckets_of_a_subject_are_shown(it: Looked) -> None:
    await it.go("#/limits")
    await it.page.get_by_label("Session").fill("s1")
    await it.page.get_by_label("Event type").fill("typing_indicator")
    await it.page.get_by_role("button", name="Show").click()
    await expect(it.page.get_by_role("row", name="typing session s1")).to_contain_text("5 of 5")
    await expect(it.page.get_by_text("1 have no bucket for it")).to_be_visible()


async def test_who_may_only_look_sees_no_button_that_changes(browser: Browser, store: Store, tmp_path: Path) -> None:
    parts = parts_on(store, policies_in(tmp_path, "console: {token: env:TOKEN, read: env:VAULT_KEY}\n"))
    await bury(parts, "evt_1")
    async with served(parts) as client, looked(browser, str(client.base_url), token=VAULT_KEY) as it:
        await expect(it.page.get_by_text("may only look")).to_be_visible()
        await it.go("#/deliveries/laravel?tab=dead")
        await expect(it.page.get_by_role("link", name="evt_1")).to_be_visible()
        await expect(it.page.get_by_role("button", name="…")).to_have_count(0)


async def test_the_text_of_strangers_is_shown_as_text(it: Looked, parts: Resources) -> None:
    body = f'{{"text": "{HOSTILE}'.encode()
    await bury(parts, HOSTILE, type=HOSTILE, session=HOSTILE, body=body, headers=((b"X-A", HOSTILE.encode()),))
    await parts.registry.register(Worker("w1", "1", "http://127.0.0.1:3101", 5))
    await place(parts.registry, HOSTILE, {"workspace_id": HOSTILE, "note": HOSTILE})
    for view, times in (("#/deliveries?tab=dead", 3), ("#/sessions", 2)):
        await it.go(view)
        await expect(it.page.get_by_text(SHOWN).nth(times - 1)).to_be_visible()
    await it.page.get_by_role("link", name=SHOWN).first.click()
    await expect(it.page.locator("#session")).to_have_text(SHOWN)
    await it.go("#/deliveries?tab=dead")
    await it.page.get_by_role("link", name=SHOWN).first.click()
    await expect(it.page.locator("#event")).to_have_text(SHOWN)
    await expect(it.page.get_by_role("region", name="Body")).to_contain_text(SHOWN)
    assert await it.page.locator("img").count() == 0
    assert await it.page.title() == "Event · Sluice"
