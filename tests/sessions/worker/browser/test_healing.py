"""What befalls a browser is noticed, and another one is opened on its login: four sessions at the same time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessions.worker.browser import attendant
from sluice.observe import log as logs
from sluice.process.descendants import descendants
from sluice.process.memory import private_memory
from tests.heard import Heard
from tests.sessions.worker.browser.running import WITHIN, Bench
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ENDED = "the browser ended, or its page crashed"
HANGS = "the page did not answer within 5 s (facts)"
HARMS = ("renderer", "browser", "frozen", "hangs")


def phone_of(harm: str) -> str:
    return f"6283330{HARMS.index(harm)}"


@dataclass
class Harmed:
    heard: Heard
    before: dict[str, int]
    """The pids of the browsers that were harmed."""
    seen: int
    """Events by then."""

    def reasons(self, session: str) -> list[str]:
        lines = [fields for message, fields in self.heard.lines if message == "browser.ended"]
        return [fields["reason"] for fields in lines if fields["session"] == session]


@pytest.fixture(scope="module")
def patient() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attendant, "_LOOK_EVERY", 0.2)
        patch.setattr(attendant, "_ANSWERS_WITHIN", 5.0)
        patch.setattr(attendant, "_MISSES", 2)
        patch.setattr(attendant, "_FIRST_PAUSE", 0.1)
        yield patch


@pytest.fixture(scope="module")
async def harmed(lasting: Bench, patient: pytest.MonkeyPatch) -> Harmed:
    heard = Heard()
    patient.setattr(logs, "_out", heard)
    await asyncio.gather(*(lasting.pair(harm, phone_of(harm)) for harm in HARMS))
    await asyncio.sleep(6)  # Chromium writes what localStorage has within 5 s
    before = {harm: lasting.login(harm).pid for harm in HARMS}
    made = Harmed(heard, before, len(lasting.laravel.events))
    os.kill(_renderer(before["renderer"]), signal.SIGKILL)
    os.kill(before["browser"], signal.SIGKILL)
    os.kill(before["frozen"], signal.SIGSTOP)
    lasting.whatsapp.tell(phone_of("hangs"), "hang")
    return made


@pytest.mark.parametrize(
    ("harm", "said"), [("renderer", ENDED), ("browser", ENDED), ("frozen", HANGS), ("hangs", HANGS)]
)
async def test_a_browser_that_is_harmed_is_opened_again_with_its_login(
    harmed: Harmed, bench: Bench, harm: str, said: str
) -> None:
    before = harmed.before[harm]
    await until(lambda: bench.login(harm).pid not in (0, before), timeout=WITHIN, what=f"another browser of {harm}")
    await bench.laravel.event(harm, "session_ready", after=harmed.seen)
    assert harmed.reasons(harm)[0] == said
    assert not bench.laravel.of(harm, "qr_code_generated", "session_disconnected", after=harmed.seen)
    assert not Path(f"/proc/{before}").exists() or _is_gone(before)

    await bench.online(phone_of(harm))
    arrived = await bench.whatsapp.incoming(phone_of(harm), "628777000@c.us", "still there?")
    await until(lambda: arrived in _received(bench, harm), timeout=WITHIN)
    about = {"session_id": harm, "recipient_phone": "628777000", "message": f"{harm} is healed"}
    status, answer = await bench.post("/api/messages/send", about)
    assert status == 200, answer
    assert sum(one.body == about["message"] for one in bench.whatsapp.sent) == 1


async def test_a_browser_that_has_grown_is_opened_again_with_its_login(
    harmed: Harmed, bench: Bench, patient: pytest.MonkeyPatch
) -> None:
    session, phone = "grown", "62833399"
    await bench.pair(session, phone)
    before = bench.login(session).pid
    taken = private_memory((before, *descendants(before)))
    assert taken > 2**20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attendant, "_MAX_MEMORY", 2**20)
        patch.setattr(attendant, "_GROWS_AFTER", 0.0)
        await until(lambda: harmed.reasons(session), timeout=WITHIN)
    await until(lambda: bench.login(session).pid not in (0, before), timeout=WITHIN)
    await bench.stands(session, "connected")
    said = harmed.reasons(session)[0]
    assert said.startswith("its browser had grown to ")
    assert said.endswith(" MiB, of 1 that it may have")


async def test_a_send_in_whose_midst_the_page_is_lost_is_unknown_and_asked_again_sent_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, phone = "unknown", "62833396"
    await bench.pair(session, phone)
    before = bench.login(session).pid
    bench.whatsapp.takes.clear()
    about = {"session_id": session, "recipient_phone": "628777000", "message": "is it sent?"}
    asked = asyncio.create_task(bench.post("/api/messages/send", about, **{"x-sluice-message-id": "order-1"}))
    await until(lambda: bench.laravel.of(session, "message_sent"), timeout=WITHIN)
    os.kill(_renderer(before), signal.SIGKILL)
    error = "it is not known whether it was sent: the browser ended, or its page crashed"
    assert await asked == (500, {"success": False, "error": error})

    bench.whatsapp.takes.set()
    await until(lambda: bench.login(session).pid not in (0, before), timeout=WITHIN)
    await bench.stands(session, "connected")
    for _ in range(2):
        status, answer = await bench.post("/api/messages/send", about, **{"x-sluice-message-id": "order-1"})
        assert (status, answer.get("message_id")) == (200, "order-1"), answer
    await until(lambda: any(one.body == "is it sent?" for one in bench.whatsapp.sent), timeout=WITHIN)
    assert len({one.id for one in bench.whatsapp.sent if one.body == "is it sent?"}) == 1


async def test_a_page_that_keeps_all_to_itself_is_caught_up_with_once_it_is_opened_again(bench: Bench) -> None:
    session, phone = "silent", "62833398"
    await bench.pair(session, phone)
    first = await bench.whatsapp.incoming(phone, "628777000@c.us", "before")
    await until(lambda: _received(bench, session) == [first], timeout=WITHIN)
    bench.whatsapp.tell(phone, "silent")
    unheard = [await bench.whatsapp.incoming(phone, "628777000@c.us", f"unheard {n}") for n in range(3)]
    await until(lambda: {one.rpartition("_")[2] for one in unheard} <= {*bench.whatsapp.received}, timeout=WITHIN)
    assert _received(bench, session) == [first]
    await bench.post(f"/api/sessions/{session}/reconnect")
    await until(lambda: {*unheard} <= {*_received(bench, session)}, timeout=WITHIN)
    assert _received(bench, session) == [first, *unheard]


_KEY = """async () => {
  const opened = indexedDB.open('signal-storage', 1);
  const base = await new Promise((done) => { opened.onsuccess = () => done(opened.result); });
  const asked = base.transaction('kv').objectStore('kv').get('key');
  const key = await new Promise((done) => { asked.onsuccess = () => done(asked.result); });
  base.close();
  const exported = await crypto.subtle.exportKey('raw', key).then(() => true, () => false);
  return { type: key.constructor.name, extractable: key.extractable, exported };
}"""


async def test_a_login_of_many_mebibytes_whose_key_nobody_can_read_is_opened_again(bench: Bench) -> None:
    """`benchmarks/browsers.py --sessions 0 --mib 300` does so with more, on another machine."""
    session, phone = "large", "62833397"
    bench.whatsapp.modes[phone] = {"mib": 16}
    await bench.pair(session, phone)
    await bench.restart()
    await bench.stands(session, "connected")
    kept = {"type": "CryptoKey", "extractable": False, "exported": False}
    assert await bench.evaluate(session, _KEY) == kept


def _received(bench: Bench, session: str) -> list[str]:
    return [data["message"]["id"] for _, data in bench.laravel.of(session, "message_received")]


def _renderer(browser: int) -> int:
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(browser)}
    return next(pid for pid, command in commands.items() if b"--type=renderer" in command)


def _is_gone(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"Z", b"X")
