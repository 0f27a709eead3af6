"""What a person does at the console in a bad hour, in a real Chromium, on real processes: `sluice up`, a receiver that
fails as it is told, a chat and a mail server, and a worker as the contract has it, whose codes are scanned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from sluice.console.page import libraries
from tests.contract.running import ContractWorker, log_in, worker
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.e2e.deployment import SECRETS, Deployment, deployment
from tests.e2e.receiver import Receiver, receiving
from tests.gateway.alerts.sinks import Mailbox, Sink, mailbox, webhook
from tests.ports import free_ports
from tests.sluice.console.page.looking import chromium, looked
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OPERATOR, READER = SECRETS["SLUICE_CONSOLE_TOKEN"], "the-token-of-who-may-only-look"
LONG = 90.0
"""Seconds that something may take that `sluice up` does by itself, on a busy machine."""
_CIRCUIT = "circuit: {open: 200ms, cap: 200ms}"
_ALERTS = """alerts:
  mail: {{server: "127.0.0.1:{port}", from: sluice@example.com, tls: none}}
  receivers: {{chat: {{webhook: env:CHAT}}, ops: {{mail: ops@example.com}}}}
  rules: [{{when: circuit_open, for: none, repeat: none, to: [chat, ops]}}]
"""


_SESSIONS = "sessions: {lease: 3s, "
_NODE_KEY = "the-node-key"
QR_SESSION, OLD, NEW = "webjs_7_shop", "webjs_8_old", "webjs_8_new"


@dataclass
class World:
    """`node` is the worker, `profiles` what lies on its disk, `phones` who scans its codes."""

    deployed: Deployment
    laravel: Receiver
    chat: Sink
    mail: Mailbox
    node: ContractWorker
    profiles: Path
    phones: WhatsApp

    @property
    def url(self) -> str:
        return self.deployed.gateway

    @property
    def mails(self) -> list[str]:
        return [message.decode().replace("=\r\n", "") for message in self.mail.messages]


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Once an endpoint's circuit is open, it stays so until a person does something."""
    async with AsyncExitStack() as stack:
        find = stack.enter_context(free_ports())
        ports, node_port, folder = (find(), find()), find(), tmp_path_factory.mktemp("console")
        laravel = await stack.enter_async_context(receiving(ports[1]))
        chat, mail = await stack.enter_async_context(webhook()), await stack.enter_async_context(mailbox())
        deployed = await stack.enter_async_context(deployment(folder, ports))
        text = deployed.file.read_text().replace(_CIRCUIT, "circuit: {open: 1h, cap: 1h}")
        text = text.replace("console: {", "console: {read: env:READER, ")
        known = f"workers: [{{url: 'http://127.0.0.1:{node_port}', key: env:NODE_KEY, name: n1}}]"
        text = text.replace(_SESSIONS, f"sessions: {{lease: 20s, {known}, ")
        deployed.file.write_text(text + _ALERTS.format(port=mail.port))
        deployed.environment = {"CHAT": chat.url, "READER": READER, "NODE_KEY": _NODE_KEY}
        await deployed.start_up()
        phones = await stack.enter_async_context(whatsapp())
        given = "--api-key", _NODE_KEY, "--secret", SECRETS["WHATSAPP_HMAC_SECRET"]
        node = await stack.enter_async_context(worker(node_port, deployed.gateway, folder, phones, *given))
        yield World(deployed, laravel, chat, mail, node, folder / f"profiles-{node_port}", phones)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    await asyncio.to_thread(libraries.install)
    async with chromium() as browser:
        yield browser


async def test_an_outage_is_told_looked_into_probed_and_seen_to_its_end(browser: Browser, world: World) -> None:
    taken = lambda: [one for one in world.laravel.taken() if one.session.startswith("outage-")]  # noqa: E731
    async with looked(browser, world.url, token=OPERATOR) as it:
        page = it.page
        await expect(page.locator("#verdict")).to_be_visible()
        world.laravel.status = 500
        identities = [await world.deployed.send(f"outage-{number}") for number in range(12)]
        identities.append(await world.deployed.send("outage-0", 2))

        # It begins: on the page, in the chat and by mail.
        await expect(page.locator("#messages")).to_contain_text("laravel: the circuit is open", timeout=LONG * 1000)
        await until(lambda: world.chat.notified == [("firing", "laravel")], timeout=LONG, what="the chat to be told")
        await until(lambda: len(world.mails) == 1, timeout=LONG, what="a mail")
        assert "endpoint laravel: its circuit is open" in world.mails[0]

        # Why does this one wait?
        await page.get_by_role("link", name="Open laravel").first.click()
        await expect(page.get_by_role("table", name="Answers")).to_contain_text("500")
        await it.go(f"#/event/{identities[-1]}")
        await expect(page.get_by_text("Older ones of its session")).to_be_visible()
        await page.get_by_role("link", name=identities[0]).click()
        await expect(page.get_by_role("table", name="Attempts at laravel")).to_contain_text("500")

        # Nothing is sent while a person holds it, but for a probe.
        await it.go("#/deliveries/laravel")
        await _confirm(page, "Hold open…", "Hold it", {"Why, for whoever looks at it": "ticket 4711"})
        await expect(page.get_by_text("held open by a person")).to_be_visible()
        await _confirm(page, "Probe…", "Send one event")
        await expect(page.get_by_role("status").filter(has_text="It failed: ")).to_contain_text("500")
        world.laravel.status = 200
        await _confirm(page, "Probe…", "Send one event")
        await expect(page.get_by_text("It was answered 2xx; what waits follows.")).to_be_visible()
        assert len(taken()) == 1
        await _confirm(page, "Release…", "Release it")

        # And it ends.
        await until(lambda: len(taken()) == 13, timeout=LONG, what="all to be delivered")
        await it.go("#/overview")
        endpoints = page.get_by_role("table", name="Endpoints")
        await expect(endpoints.get_by_role("row", name="laravel")).to_contain_text("closed", timeout=LONG * 1000)
        await until(
            lambda: ("resolved", "laravel") in world.chat.notified, timeout=LONG, what="the chat to hear the end"
        )
        await until(lambda: len(world.mails) == 2, timeout=LONG, what="a second mail")
        assert [event for event, _ in world.chat.notified] == ["firing", "resolved"]
        await it.go("#/alerts")
        await expect(page.get_by_role("table", name="What was told last").get_by_role("row")).to_have_count(1 + 4)
    assert [one.sequence for one in taken() if one.session == "outage-0"] == [1, 2]
    assert sorted(one.id for one in taken()) == sorted(identities)


async def test_dead_letters_are_replayed_in_the_order_in_which_they_came(browser: Browser, world: World) -> None:
    world.laravel.refuses.add("renamed")
    for number in (1, 2, 3):
        await world.deployed.send("renamed", number)
    await world.deployed.send("others", 1)

    async def buried() -> bool:
        # While others get through, what is refused is the session's own fault.
        await world.deployed.send("others", 2)
        return bool((await world.deployed.status())["endpoints"]["laravel"]["dead"] == 3)

    await until(buried, timeout=LONG, what="three dead letters")
    async with looked(browser, world.url, token=OPERATOR) as it:
        await it.page.get_by_role("link", name="Dead letters").first.click()
        await it.page.get_by_label("Session").fill("renamed")
        await it.page.get_by_role("button", name="Filter").click()
        await expect(it.page.get_by_role("checkbox")).to_have_count(3)
        await it.page.get_by_role("button", name="Replay what is found…").click()
        await expect(it.page.get_by_role("dialog")).to_contain_text("3 message_received for laravel: answered 422")
        world.laravel.refuses.clear()
        await it.page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        await expect(it.page.get_by_text("3 events: replayed.")).to_be_visible()
        renamed = lambda: [one.sequence for one in world.laravel.taken() if one.session == "renamed"]  # noqa: E731
        await until(lambda: len(renamed()) == 3, timeout=LONG, what="all three")
        assert renamed() == [1, 2, 3]
        await it.go("#/overview")
        await expect(it.page.locator("#messages")).not_to_contain_text("dead letter", timeout=LONG * 1000)


async def test_an_edit_of_the_policies_is_seen_live_and_a_wrong_one_by_its_line(browser: Browser, world: World) -> None:
    file = world.deployed.file
    before = file.read_text()
    async with looked(browser, world.url, token=OPERATOR) as it:
        about = it.page.locator("#about")
        await expect(about).to_contain_text("policies ")
        revision = await about.inner_text()
        line = before[: before.index("limits:")].count("\n") + 2
        file.write_text(before.replace("limits:\n", "limits:\n  - {id: news, rate: often, over: reject}\n"))
        await expect(it.page.locator("#file")).to_contain_text(f"line {line}, column ", timeout=LONG * 1000)
        await expect(it.page.locator("#file")).to_contain_text("often")
        assert await about.inner_text() == revision
        file.write_text(
            before.replace("limits:\n", "limits:\n  - {id: news, event: news, rate: 5/minute, over: reject}\n")
        )
        await expect(it.page.locator("#file")).to_have_count(0, timeout=LONG * 1000)
        await expect(about).not_to_have_text(revision, timeout=LONG * 1000)
        await it.go("#/limits")
        await expect(it.page.get_by_role("row", name="news").first).to_be_visible()
        file.write_text(before)
        await expect(about).to_have_text(revision, timeout=LONG * 1000)


async def test_who_may_only_look_is_refused_whatever_the_page_shows(browser: Browser, world: World) -> None:
    async with looked(browser, world.url, token=READER) as it:
        await expect(it.page.get_by_text("may only look")).to_be_visible()
        await it.go("#/deliveries/laravel")
        await expect(it.page.locator(".facts")).to_be_visible()
        await expect(it.page.get_by_role("button", name="…")).to_have_count(0)
        asked = """async () => {
            const { csrf } = await (await fetch("login")).json();
            const headers = { "X-CSRF-Token": csrf };
            const answer = await fetch("api/circuits/laravel", { method: "POST", headers, body: '{"hold": "open"}' });
            return [answer.status, (await answer.json()).detail];
        }"""
        assert await it.page.evaluate(asked) == [
            403,
            "console.read may look and change nothing; log in with console.token",
        ]
    circuit = (await world.deployed.status())["endpoints"]["laravel"]["circuit"]
    assert not circuit["held"]


async def test_a_session_is_created_and_its_code_is_live_until_it_is_scanned(browser: Browser, world: World) -> None:
    async with looked(browser, world.url, token=OPERATOR) as it:
        page = it.page
        await it.go("#/sessions")
        await until(lambda: _knows(world, "n1"), timeout=LONG, what=world.deployed.said)
        await page.get_by_role("button", name="Create…").click()
        await page.get_by_label("Name", exact=True).fill(QR_SESSION)
        await page.get_by_role("dialog").get_by_label("Workspace").fill("7")
        await page.keyboard.press("Enter")
        await expect(page.locator("#session")).to_have_text(QR_SESSION, timeout=LONG * 1000)
        code = page.get_by_role("img", name=f"QR code of {QR_SESSION}")
        await expect(code).to_be_visible(timeout=LONG * 1000)
        assert await code.evaluate("(image) => image.naturalWidth") > 8, "it is a picture"
        first = await code.get_attribute("src") or ""
        await expect(code).not_to_have_attribute("src", first, timeout=LONG * 1000)

        world.phones.scan(QR_SESSION, "4917012345")
        await expect(code).to_have_count(0, timeout=LONG * 1000)
        await expect(page.locator(".facts")).to_contain_text("connected", timeout=LONG * 1000)
        await expect(page.locator(".facts")).to_contain_text("4917012345", timeout=LONG * 1000)
        await expect(page.get_by_role("heading", name="Link a phone")).to_have_count(0)
        assert await world.node.status(QR_SESSION) == "connected"
        assert any(one.session == QR_SESSION for one in world.laravel.taken()), "Laravel hears of it"
        await it.go("#/audit")
        await expect(page.get_by_role("row").filter(has_text=f"session: {QR_SESSION}, workspace: 7")).to_have_count(1)


async def test_duplicates_of_a_phone_go_after_a_look_at_which_they_are(browser: Browser, world: World) -> None:
    async with looked(browser, world.url, token=OPERATOR) as it, httpx2.AsyncClient(timeout=LONG) as laravel:
        page = it.page
        await until(lambda: _knows(world, "n1"), timeout=LONG, what=world.deployed.said)
        for account, name in enumerate((OLD, NEW)):
            log_in(world.profiles, name, 8, "4917099999")
            row = {"session_id": name, "workspace_id": 8, "account_id": account, "api_key": _NODE_KEY}
            created = await laravel.post(f"{world.url}/api/sessions", json=row)
            assert created.status_code == 200, created.text
            await until(lambda name=name: _is(world, name, "connected"), timeout=LONG, what=world.deployed.said)
        await it.go("#/sessions")
        rivals = page.get_by_role("table", name="Two with one phone")
        await expect(rivals).to_contain_text(OLD, timeout=LONG * 1000)
        await page.get_by_role("button", name="Clean duplicates…").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("1 session has the phone of another one that is connected.")
        says = f"{OLD}: connected, as {NEW} is (at n1); {NEW} stays with phone 4917099999"
        await expect(dialog).to_contain_text(says)
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        assert await world.node.status(OLD) == "connected", "a look ends nothing"

        await page.get_by_role("button", name="Clean duplicates…").click()
        await dialog.get_by_role("button", name="End them").click()
        await expect(page.get_by_text("1 ended")).to_be_visible(timeout=LONG * 1000)
        await expect(rivals).to_have_count(0, timeout=LONG * 1000)
        assert [await world.node.status(name) for name in (OLD, NEW)] == [None, "connected"]
        await page.get_by_role("button", name="Clean duplicates…").click()
        await expect(dialog).to_contain_text("No session has the phone of another one that is connected.")


async def _knows(world: World, worker: str) -> bool:
    return any(row["worker"] == worker and not row["lost"] for row in (await world.deployed.status())["workers"])


async def _is(world: World, session: str, state: str) -> bool:
    """By the registry."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    async with httpx2.AsyncClient(base_url=world.url, trust_env=False, timeout=LONG) as client:
        answer = await client.get(f"/_sluice/api/sessions/{session}", headers=headers)
    return answer.status_code == 200 and answer.json()["state"] == state


async def _confirm(page: Page, button: str, verb: str, fields: dict[str, str] | None = None) -> None:
    """Asks for something, and does it after what it would do was shown."""
    await page.get_by_role("button", name=button).click()
    dialog: Locator = page.get_by_role("dialog")
    for label, text in (fields or {}).items():
        await dialog.get_by_label(label).fill(text)
    await dialog.get_by_role("button", name=verb).click()
    await expect(dialog).to_have_count(0)
