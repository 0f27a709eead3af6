"""A login that goes from one machine to another, here one folder of data after the other, through a vault."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from sessions.profiles import troubles
from sessions.profiles.generations import Generation, Generations, Refused
from sessions.profiles.opening import open_vault
from sessions.profiles.policies import VaultPolicy
from sessions.worker.browser import attendant, incoming, passed_on, wa_js
from sessions.worker.browser.facts import NO_LOGIN_LEFT
from sessions.worker.browser.passed_on import PassedOn
from sessions.worker.outgoing import SessionEvents
from sluice.config import Secret
from sluice.store.client import Store
from tests.heard import Heard
from tests.sessions.worker.browser import running
from tests.sessions.worker.browser.running import WITHIN, Bench
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CHAT = "628777000@c.us"


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendant, "_LOOK_EVERY", 0.2)
    monkeypatch.setattr(attendant, "_FIRST_PAUSE", 0.1)


@pytest.fixture(scope="module")
async def vaulted(store_address: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    store = Store(store_address, timeout=5.0)
    async with running.bench(tmp_path_factory.mktemp("worker"), store) as made:
        made.policy = replace(made.policy, vault=VaultPolicy("store", (Secret(b"the key of the vault"),)))
        await made.restart()
        yield made
    await store.close()


async def move(bench: Bench, session: str) -> None:
    """The worker stops properly, and one on another machine has the session."""
    await bench.end()
    await asyncio.to_thread(shutil.rmtree, bench.profile(session))
    await begin(bench, session)


async def begin(bench: Bench, session: str) -> None:
    await bench.begin()
    bench.fences[session] += 1
    await bench.worker.start(session, bench.fences[session])


# --- a login that is a moment old


async def test_a_login_that_is_300_ms_old_when_its_worker_stops_is_not_lost(vaulted: Bench) -> None:
    session, phone = "moment", "62844401"
    await vaulted.start(session)
    await vaulted.whatsapp.scan(phone, await vaulted.code(session))
    await until(lambda: vaulted.whatsapp.connected_since(phone), timeout=WITHIN)
    began = vaulted.whatsapp.connected_since(phone)
    assert began is not None
    await asyncio.sleep(began + 0.3 - time.monotonic())
    await vaulted.end()
    seen = len(vaulted.laravel.events)
    await asyncio.to_thread(shutil.rmtree, vaulted.profile(session))
    await begin(vaulted, session)
    await vaulted.stands(session, "connected")
    assert vaulted.laravel.of(session, "qr_code_generated", after=seen) == []
    await vaulted.forget(session)


async def test_a_login_of_which_its_page_said_nothing_before_it_hung_is_not_lost(
    vaulted: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, phone = "mute", "62844406"
    await vaulted.start(session)
    code = await vaulted.code(session)
    await vaulted.stands(session, "qr_scanning")
    monkeypatch.setattr(attendant, "_LOOK_EVERY", WITHIN)
    await asyncio.sleep(1)  # the last look is over
    await vaulted.evaluate(session, "() => { window.sluiceTells = () => {}; }")
    await vaulted.whatsapp.scan(phone, code)
    await until(lambda: vaulted.whatsapp.connected_since(phone), timeout=WITHIN)
    await vaulted.evaluate(session, HANGS)
    assert vaulted.login(session).state == "qr_scanning"
    seen = len(vaulted.laravel.events)
    await move(vaulted, session)
    await vaulted.stands(session, "connected")
    assert vaulted.laravel.of(session, "qr_code_generated", "session_disconnected", after=seen) == []
    await vaulted.forget(session)


async def test_a_login_whose_page_was_still_being_opened_when_its_worker_stopped_is_not_lost(vaulted: Bench) -> None:
    """A code can be scanned before the page can be asked anything."""
    session, phone = "opening", "62844407"
    await vaulted.end()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wa_js, "load", lambda: "")
        await vaulted.begin()
        await vaulted.start(session)
        await vaulted.whatsapp.scan(phone)
        await until(lambda: vaulted.whatsapp.connected_since(phone), timeout=WITHIN)
        assert vaulted.login(session).state == "starting"
        await vaulted.end()
    await asyncio.to_thread(shutil.rmtree, vaulted.profile(session))
    await begin(vaulted, session)
    await vaulted.stands(session, "connected")
    assert vaulted.laravel.of(session, "qr_code_generated", "session_disconnected") == []
    await vaulted.forget(session)


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_page_that_hangs_and_has_no_login_shows_a_code_afterwards_and_nobody_is_told_of_a_loss(
    vaulted: Bench, elsewhere: bool
) -> None:
    session, phone = f"empty-{elsewhere}", f"6284440{8 + elsewhere}"
    await vaulted.start(session)
    await vaulted.code(session)
    await vaulted.evaluate(session, HANGS)
    await vaulted.end()
    (kept,) = await generations(vaulted, session)
    assert kept.unproven
    if elsewhere:
        await asyncio.to_thread(shutil.rmtree, vaulted.profile(session))
    await begin(vaulted, session)
    await vaulted.stands(session, "qr_scanning")
    assert vaulted.laravel.of(session, "session_disconnected") == []

    await vaulted.whatsapp.scan(phone, await vaulted.code(session))
    await vaulted.stands(session, "connected")
    await vaulted.end()
    (proven,) = await generations(vaulted, session)
    assert not proven.unproven
    await begin(vaulted, session)
    await vaulted.stands(session, "connected")
    await vaulted.forget(session)


async def test_a_session_whose_page_shows_a_code_when_its_worker_stops_is_not_kept(vaulted: Bench) -> None:
    session = "unscanned"
    await vaulted.start(session)
    await vaulted.code(session)
    await vaulted.end()
    assert await generations(vaulted, session) == ()
    await begin(vaulted, session)
    await vaulted.forget(session)


HANGS = "() => { setTimeout(() => { for (;;); }); }"


async def generations(bench: Bench, session: str) -> tuple[Generation, ...]:
    """Newest first."""
    known = await open_vault(cast(VaultPolicy, bench.policy.vault), bench.store).generations.of(session)
    return known.generations if known is not None else ()


# --- who may take a lock away


async def test_a_lock_of_another_machine_stays_while_the_lease_does_not_stand(vaulted: Bench, heard: Heard) -> None:
    session = "no-lease"
    lock = locked(vaulted, session)
    await vaulted.worker.start(session, 1)
    await until(lambda: "its lease is over" in reasons(heard, session), timeout=WITHIN)
    assert os.readlink(lock) == FOREIGN
    assert (vaulted.login(session).pid, vaulted.login(session).code) == (0, None)
    vaulted.fences[session] = 1
    await vaulted.code(session)
    assert os.readlink(lock) == f"{socket.gethostname()}-{vaulted.login(session).pid}"
    await vaulted.forget(session)


async def test_a_lock_of_another_machine_stays_when_the_lease_ends_before_it_is_looked_at(
    vaulted: Bench, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, begin = "lapses", Generations.begin

    async def lapses(generations: Generations, session: str, fence: int | None) -> int | Refused:
        number = await begin(generations, session, fence)
        vaulted.fences.pop(session, None)
        return number

    monkeypatch.setattr(Generations, "begin", lapses)
    lock = locked(vaulted, session)
    await vaulted.start(session)
    await until(lambda: "its lease is over" in reasons(heard, session), timeout=WITHIN)
    assert os.readlink(lock) == FOREIGN
    assert vaulted.login(session).pid == 0
    await vaulted.forget(session)


async def test_a_lock_of_another_machine_stays_where_a_later_start_has_the_session(vaulted: Bench) -> None:
    session = "stale"
    vault = open_vault(cast(VaultPolicy, vaulted.policy.vault), vaulted.store)
    await vault.generations.begin(session, 2)
    lock = locked(vaulted, session)
    await vaulted.start(session)
    told = await vaulted.laravel.event(session, "session_error")
    assert told["message"] == f"session {session} was started elsewhere since"
    assert os.readlink(lock) == FOREIGN
    assert vaulted.login(session).pid == 0
    await vaulted.forget(session)


FOREIGN = "another-machine-4711"


def locked(bench: Bench, session: str) -> Path:
    profile = bench.profile(session)
    profile.mkdir(parents=True)
    lock = profile / "SingletonLock"
    lock.symlink_to(FOREIGN)
    return lock


def reasons(heard: Heard, session: str) -> list[str]:
    return [
        fields["reason"]
        for message, fields in heard.lines
        if message == "browser.ended" and fields["session"] == session
    ]


# --- a code of a login that nobody has ended


async def test_a_login_whose_folder_is_damaged_is_restored_once_more_and_nobody_is_told(vaulted: Bench) -> None:
    session, phone = "damaged", "62844402"
    await vaulted.pair(session, phone)
    await noted(vaulted, session)
    await vaulted.end()  # which saves it
    await asyncio.to_thread(shutil.rmtree, vaulted.profile(session) / "Default" / "IndexedDB")
    seen = len(vaulted.laravel.events)
    await begin(vaulted, session)
    await vaulted.stands(session, "connected")
    await vaulted.laravel.event(session, "session_ready", after=seen)
    assert vaulted.laravel.of(session, "qr_code_generated", "session_disconnected", after=seen) == []
    await vaulted.forget(session)


async def test_a_login_whose_mark_is_gone_is_known_by_its_copies(vaulted: Bench) -> None:
    session, phone = "unmarked", "62844410"
    await vaulted.pair(session, phone)
    await noted(vaulted, session)
    await vaulted.end()  # which saves it
    await PassedOn(vaulted.store, session).forget()
    await asyncio.to_thread(shutil.rmtree, vaulted.profile(session) / "Default" / "IndexedDB")
    seen = len(vaulted.laravel.events)
    await begin(vaulted, session)
    await vaulted.stands(session, "connected")
    assert vaulted.laravel.of(session, "qr_code_generated", "session_disconnected", after=seen) == []
    await vaulted.forget(session)


async def test_a_login_after_a_logout_moves_as_well(vaulted: Bench) -> None:
    session, phone = "again", "62844411"
    await vaulted.pair(session, phone)
    await noted(vaulted, session)
    await vaulted.restart()  # which saves it
    await vaulted.stands(session, "connected")
    await vaulted.online(phone)
    vaulted.whatsapp.tell(phone, "logout")
    await vaulted.laravel.event(session, "session_disconnected")
    seen = len(vaulted.laravel.events)
    await vaulted.laravel.event(session, "qr_code_generated", after=seen)
    (vaulted.profile(session) / "since").touch()
    await vaulted.restart()
    await vaulted.whatsapp.scan(phone, await vaulted.code(session))
    assert (vaulted.profile(session) / "since").exists(), "what was made after the logout"
    await vaulted.stands(session, "connected")
    await vaulted.end()
    await begin(vaulted, session)
    await vaulted.stands(session, "connected")

    await vaulted.online(phone)
    seen = len(vaulted.laravel.events)
    vaulted.whatsapp.tell(phone, "logout")
    await vaulted.laravel.event(session, "qr_code_generated", after=seen)
    await vaulted.whatsapp.scan(phone, await vaulted.code(session))
    await vaulted.stands(session, "connected")
    seen = len(vaulted.laravel.events)
    await move(vaulted, session)
    await vaulted.stands(session, "connected")
    assert vaulted.laravel.of(session, "qr_code_generated", "session_disconnected", after=seen) == []
    await vaulted.forget(session)


async def test_a_generation_that_shows_a_code_is_passed_over_for_the_one_before_and_it_is_told(
    vaulted: Bench,
) -> None:
    session, phone = "older", "62844403"
    await vaulted.pair(session, phone)
    await noted(vaulted, session)
    await vaulted.restart()
    await vaulted.stands(session, "connected")
    await vaulted.evaluate(session, EMPTIES)
    seen = len(vaulted.laravel.events)
    await move(vaulted, session)
    await vaulted.stands(session, "connected")
    assert vaulted.laravel.of(session, "qr_code_generated", "session_disconnected", after=seen) == []
    (trouble,) = (one for one in await troubles.known(vaulted.store) if one.session == session)
    assert trouble.kind == "fell_back"
    assert re.fullmatch(r"generation \d+: its page showed a code", trouble.reason)
    await vaulted.forget(session)


async def test_a_login_of_which_no_generation_opens_is_told_and_shows_a_code(vaulted: Bench) -> None:
    session, phone = "lost", "62844404"
    await vaulted.pair(session, phone)
    await noted(vaulted, session)
    await vaulted.evaluate(session, EMPTIES)
    seen = len(vaulted.laravel.events)
    await move(vaulted, session)
    told = await vaulted.laravel.event(session, "session_disconnected", after=seen)
    assert told["reason"] == NO_LOGIN_LEFT
    await vaulted.laravel.event(session, "qr_code_generated", after=seen)
    await vaulted.forget(session)


EMPTIES = """async () => {
  const open = indexedDB.open('signal-storage', 1);
  await new Promise((done) => { open.onsuccess = done; });
  const emptying = open.result.transaction('kv', 'readwrite', {durability: 'strict'});
  emptying.objectStore('kv').clear();
  await new Promise((done) => { emptying.oncomplete = done; });
}"""
"""The page's login is gone, and the page does not know it."""


async def noted(bench: Bench, session: str, *, after: float = 0.0) -> float:
    """Until when all was passed on, which is after that moment."""
    marks, found = PassedOn(bench.store, session), 0.0

    async def is_noted() -> bool:
        nonlocal found
        found = await marks.until() or 0.0
        return found > after

    await until(is_noted, timeout=WITHIN)
    return found


# --- what came before a move


async def test_what_nobody_had_taken_when_a_worker_stopped_is_told_by_the_next_one_and_all_else_is_not(
    vaulted: Bench, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    """However long ago it came: here nothing from before the mark is looked at once more."""
    monkeypatch.setattr(incoming, "_OVERLAP", 0.0)
    monkeypatch.setattr(passed_on, "_EVERY", 0.0)
    session, phone = "left", "62844405"
    await vaulted.pair(session, phone)
    before = time.time()
    taken = await vaulted.whatsapp.incoming(phone, CHAT, "taken")
    await until(lambda: received(vaulted, session) == [taken], timeout=WITHIN)
    mark = await noted(vaulted, session, after=before)
    await asyncio.sleep(max(0.0, mark + 1.1 - time.time()))  # WhatsApp counts in seconds
    vaulted.laravel.away = True
    left = [await vaulted.whatsapp.incoming(phone, CHAT, f"left {number}") for number in range(3)]
    waiting = cast(SessionEvents, vaulted.worker._running[session].events)._waiting
    await until(lambda: len(waiting) == len(left), timeout=WITHIN)
    await vaulted.end()
    (about,) = (fields for message, fields in heard.lines if message == "webhook.left")
    assert (about["session"], about["waiting"]) == (session, len(left))
    await asyncio.to_thread(shutil.rmtree, vaulted.profile(session))
    vaulted.laravel.away = False
    await begin(vaulted, session)
    await until(lambda: len(received(vaulted, session)) >= 4, timeout=WITHIN)
    await vaulted.stands(session, "connected")
    assert received(vaulted, session) == [taken, *left]
    await vaulted.forget(session)


def received(bench: Bench, session: str) -> list[str]:
    return [data["message"]["id"] for _, data in bench.laravel.of(session, "message_received")]
