"""What goes wrong with a session in a browser, each in words that name the cure."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from sessions.policies import SessionsPolicy
from sessions.profiles.browsers import browser_at
from sessions.profiles.policies import VaultPolicy
from sessions.worker.browser import attendant, keeping, page
from sessions.worker.browser.chromium import Chromium
from sessions.worker.browser.passed_on import PassedOn
from sluice.config import Secret
from tests.heard import Heard
from tests.sessions.worker.browser.running import WITHIN, Bench
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
_NUMBERS = itertools.count(1)
UPDATE = "WhatsApp takes no client of this version any more: update the browser, and wa-js with a newer Sluice"
BLOCKED = {
    "CONFLICT": "WhatsApp Web is open elsewhere with this login, and was given the connection there",
    "PROXYBLOCK": "WhatsApp refuses the address that this machine uses: it blocks proxies",
    "TOS_BLOCK": "WhatsApp has banned this number for a breach of its terms",
    "SMB_TOS_BLOCK": "WhatsApp has banned this business number for a breach of its terms",
}


def new() -> tuple[str, str]:
    """A session and a phone that no other test has."""
    number = next(_NUMBERS)
    return f"webjs_7_1700000000_error{number}", f"62822200{number:02}"


# --- what the page does


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are looked at often, and what fails is tried again soon."""
    monkeypatch.setattr(attendant, "_LOOK_EVERY", 0.2)
    monkeypatch.setattr(attendant, "_FIRST_PAUSE", 0.1)


async def test_what_blocks_a_number_is_said_and_its_login_is_kept(bench: Bench, attentive: None) -> None:
    session, phone = new()
    await bench.pair(session, phone)
    for mode, said in BLOCKED.items():
        seen = len(bench.laravel.events)
        bench.whatsapp.tell(phone, "mode", {"mode": mode})
        told = await bench.laravel.event(session, "session_error", after=seen)
        assert (told["error"], told["message"]) == ("failed", said)
        assert bench.login(session).reason == said
        about = {"session_id": session, "recipient_phone": "628777000", "message": "not now"}
        error = {"success": False, "error": "the session is failed, not connected"}
        if mode == "CONFLICT":
            assert await bench.post("/api/messages/send", about) == (400, error)
        bench.whatsapp.tell(phone, "mode", {"mode": "MAIN"})
        await bench.stands(session, "connected")
    seen = len(bench.laravel.events)
    bench.whatsapp.tell(phone, "conflict")  # as another device of its phone has the connection
    await bench.laravel.event(session, "session_error", after=seen, message=BLOCKED["CONFLICT"])
    await bench.restart()
    await bench.stands(session, "connected")


async def test_a_page_that_is_outdated_is_opened_once_more_and_told_only_when_the_newer_one_is_as_well(
    bench: Bench, attentive: None
) -> None:
    session, phone = new()
    await bench.pair(session, phone)
    before, seen = bench.login(session).pid, len(bench.laravel.events)
    bench.whatsapp.tell(phone, "mode", {"mode": "DEPRECATED_VERSION"})
    await until(lambda: bench.login(session).pid not in (0, before), timeout=WITHIN, what="another browser")
    await bench.laravel.event(session, "session_ready", after=seen)
    assert not bench.laravel.of(session, "session_error", "session_disconnected", "qr_code_generated", after=seen)

    await bench.online(phone)
    before = bench.login(session).pid
    bench.whatsapp.tell(phone, "mode", {"mode": "DEPRECATED_VERSION"})  # it cannot be helped, and its login is kept
    told = await bench.laravel.event(session, "session_error", after=seen)
    assert (told["error"], told["message"], bench.login(session).reason) == ("failed", UPDATE, UPDATE)
    assert bench.login(session).pid == before

    bench.whatsapp.modes[phone] = {"mode": "DEPRECATED_VERSION"}
    seen = len(bench.laravel.events)
    await bench.restart()
    await bench.laravel.event(session, "session_error", after=seen, message=UPDATE)
    bench.whatsapp.modes[phone] = {}
    await bench.post(f"/api/sessions/{session}/restore", {})
    await bench.stands(session, "connected")


async def test_a_page_that_shows_its_chats_without_a_registration_is_not_connected(
    bench: Bench, attentive: None
) -> None:
    session, phone = new()
    bench.whatsapp.modes[phone] = {"unregistered": True}
    await bench.start(session)
    await bench.whatsapp.scan(phone, await bench.code(session))
    await bench.online(phone)
    await bench.stands(session, "authenticated")
    facts = await bench.evaluate(session, "({main: WPP.conn.isMainReady(), registered: WPP.conn.isRegistered()})")
    assert facts == {"main": True, "registered": False}
    about = {"session_id": session, "recipient_phone": "628777000", "message": "not yet"}
    error = {"success": False, "error": "the session is authenticated, not connected"}
    assert await bench.post("/api/messages/send", about) == (503, error)
    assert not bench.laravel.of(session, "session_ready")

    session, phone = new()
    await bench.pair(session, phone)
    bench.whatsapp.tell(phone, "unregistered")
    await bench.stands(session, "authenticated")


async def test_a_passkey_that_is_asked_for_is_said_with_the_cure(bench: Bench) -> None:
    session, phone = new()
    bench.whatsapp.modes[phone] = {"passkey": True}
    await bench.start(session)
    await bench.whatsapp.scan(phone, await bench.code(session))
    told = await bench.laravel.event(session, "session_error")
    assert told["message"] == (
        "its phone asks for a passkey, which a browser without a person cannot give: turn passkeys off on the phone "
        "(Settings, Account, Passkeys), then scan the code again or pair it by a typed code"
    )


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (None, "its phone has ended it"),
        ("account_locked", "WhatsApp has locked or banned this number: its phone says which, and what to do"),
    ],
)
async def test_a_session_that_is_ended_says_why_and_shows_a_new_code(
    bench: Bench, attentive: None, reason: str | None, said: str
) -> None:
    session, phone = new()
    await bench.pair(session, phone)
    seen = len(bench.laravel.events)
    bench.whatsapp.tell(phone, "logout", {"reason": reason})
    assert (await bench.laravel.event(session, "session_disconnected", after=seen))["reason"] == said
    await bench.laravel.event(session, "qr_code_generated", after=seen)
    scanned = set[str]()

    async def connected() -> bool:
        login = bench.login(session)
        if login.code and login.code not in scanned:  # the first may still be that of the page that is being closed
            scanned.add(login.code)
            await bench.whatsapp.scan(phone, login.code)
        return login.state == "connected"

    await until(connected, timeout=WITHIN, what=f"{session} to be connected")


async def test_a_phone_that_ended_it_while_nobody_ran_it_is_said_as_well(bench: Bench, attentive: None) -> None:
    session, phone = new()
    await bench.pair(session, phone)
    await bench.laravel.event(session, "session_ready")
    await bench.whatsapp.incoming(phone, "628777000@c.us", "so that something was passed on")
    await bench.laravel.event(session, "message_received")
    await until(PassedOn(bench.store, session).until, timeout=WITHIN, what="it to be noted")
    bench.whatsapp.modes[phone] = {"unlinked": True}
    seen = len(bench.laravel.events)
    await bench.restart()
    assert (await bench.laravel.event(session, "session_disconnected", after=seen))["reason"] == (
        "its page shows a code, and no copy of its login opens: its phone has ended it, or its profile was damaged"
    )
    await bench.code(session)


async def test_a_page_that_never_loads_is_said_after_three_tries_and_loads_once_it_can(
    bench: Bench, attentive: None, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    session, _ = new()
    monkeypatch.setattr(page, "_LOADS_WITHIN", 1.0)
    bench.whatsapp.loads.clear()
    try:
        await bench.start(session)
        told = await bench.laravel.event(session, "session_error")
    finally:
        bench.whatsapp.loads.set()
    said = "the page did not answer within 1 s (to load https://web.whatsapp.com/)"
    assert (told["error"], told["message"]) == ("failed", said)
    lines = [fields for message, fields in heard.lines if message == "browser.ended" and fields["session"] == session]
    assert [fields["again_in"] for fields in lines][:3] == [0.1, 0.2, 0.4]
    monkeypatch.setattr(page, "_LOADS_WITHIN", WITHIN)
    await bench.code(session)


async def test_a_page_that_is_not_whatsapps_any_more_is_said(
    bench: Bench, attentive: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = new()
    monkeypatch.setattr(page, "_READY_WITHIN", 1.0)
    bench.whatsapp.html = "<!DOCTYPE html><p>WhatsApp works with Google Chrome 999+</p>"
    try:
        await bench.start(session)
        told = await bench.laravel.event(session, "session_error")
    finally:
        bench.whatsapp.html = None
    assert told["message"] == (
        "the page was not ready within 1 s: the machine is too busy, or WhatsApp Web has changed and needs a newer "
        "wa-js"
    )


# --- where its profile lies


async def test_a_profile_on_which_another_browser_runs_is_left_alone_until_that_is_gone(
    bench: Bench, attentive: None
) -> None:
    session, _ = new()
    profile = bench.profile(session)
    async with _browser_on(profile, bench.whatsapp.browser) as pid:
        await bench.start(session)
        told = await bench.laravel.event(session, "session_error")
        assert told["message"] == f"{profile}: process {pid} runs on it: stop it first"
    await bench.code(session)


async def test_a_disk_that_is_full_is_said_before_a_login_is_lost(
    bench: Bench, attentive: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = new()
    with monkeypatch.context() as full:
        full.setattr(keeping, "_GROWS", 2**60)
        await bench.start(session)
        told = await bench.laravel.event(session, "session_error")
    numbers = r"has [\d,]+ MiB free, 1,099,511,627,776 are needed, and [\d,]+ have to stay free"
    said = rf"{re.escape(str(bench.profile(session).parent))} {numbers}: below that browsers delete logins\. "
    assert re.fullmatch(said + "Free some space there", told["message"])
    await bench.code(session)


async def test_a_login_that_was_sealed_with_another_key_is_said_with_the_cure(bench: Bench, attentive: None) -> None:
    session, phone = new()
    at = bench.policy
    bench.policy = _with_key(at, b"the first key of the vault")
    await bench.restart()
    await bench.pair(session, phone)
    await bench.end()  # which saves it
    await asyncio.to_thread(shutil.rmtree, bench.profile(session))
    seen = len(bench.laravel.events)
    bench.policy = _with_key(at, b"the second key of the vault")
    await bench.begin()
    bench.fences[session] += 1
    await bench.worker.start(session, bench.fences[session])
    told = await bench.laravel.event(session, "session_error", after=seen)
    key = r"sealed with key [0-9a-f]+, which sessions\.vault\.key does not name: name the old key behind the new one"
    assert re.fullmatch(rf"its login cannot be restored: .* is {key}", told["message"]), told

    await bench.end()
    bench.policy = _with_key(at, b"the second key of the vault", b"the first key of the vault")
    await bench.begin()
    bench.fences[session] += 1
    await bench.worker.start(session, bench.fences[session])
    await bench.stands(session, "connected")
    bench.policy = at


def _with_key(policy: SessionsPolicy, *keys: bytes) -> SessionsPolicy:
    return replace(policy, vault=VaultPolicy("store", tuple(map(Secret, keys))))


@asynccontextmanager
async def _browser_on(profile: Path, path: str) -> AsyncIterator[int]:
    async with async_playwright() as playwright:
        browser = await Chromium.open(playwright, path, profile, await browser_at(path))
        try:
            yield browser.pid
        finally:
            await browser.close()
