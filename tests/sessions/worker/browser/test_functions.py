"""Each function of the contract, asked of the worker's API, done by the unmodified wa-js in a real browser."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
import segno

from tests.sessions.worker.browser.running import Bench
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
_NUMBERS = itertools.count(1)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CHAT = "628777000@c.us"
GROUP = "628777000-1700000000@g.us"


def new() -> tuple[str, str]:
    """A session and a phone that no other test has."""
    number = next(_NUMBERS)
    return f"webjs_7_1700000000_session{number}", f"62811100{number:02}"


@pytest.fixture(scope="module")
async def connected(lasting: Bench) -> tuple[str, str]:
    """A session that its phone has scanned."""
    session, phone = new()
    await lasting.pair(session, phone)
    return session, phone


def _to(session: str, message: str = "hello", **more: object) -> dict[str, Any]:
    return {"session_id": session, "recipient_phone": "+62 877-7000", "message": message, **more}


def _sent(bench: Bench, body: str) -> int:
    return sum(one.body == body for one in bench.whatsapp.sent)


async def test_a_session_is_created_shows_a_code_and_is_connected_once_it_is_scanned(bench: Bench) -> None:
    session, phone = new()
    bench.fences[session] = 4
    body = {"session_id": session, "workspace_id": 9, "account_id": "a", "priority": "high"}

    status, answer = await bench.post("/api/sessions", body, **{"x-sluice-fence": "4"})
    assert (status, answer) == (200, {"success": True, "session_id": session, "status": "qr_scanning"})
    await bench.worker.start(session, 4)

    shown = await bench.laravel.event(session, "qr_code_generated")
    code = await bench.code(session)
    about = {"workspace_id": 9, "session_id": session, "expires_in": 60, "qr_count": 1, "is_regeneration": False}
    assert {**shown, "qr_code": ""} == {**about, "qr_code": ""}
    assert code.startswith("2@")
    assert code.count(",") == 3
    picture = segno.make(code).png_data_uri(scale=6, border=2)
    assert shown["qr_code"] == picture

    path = f"/api/sessions/{session}/qr"
    answer = {"success": True, "session_id": session, "code": code, "qr_code": picture}
    assert await bench.get(path) == (200, answer)
    assert await bench.get(f"{path}?format=raw") == (200, code.encode())
    assert await bench.get(f"{path}?format=png") == (200, base64.b64decode(picture.partition(",")[2]))

    await bench.whatsapp.scan(phone, code)
    told = {"workspace_id": 9, "session_id": session}
    assert await bench.laravel.event(session, "session_authenticated") == {**told, "status": "authenticated"}
    ready = {**told, "phone_number": phone, "status": "connected", "platform": "web", "extraction_method": "wa-js"}
    assert await bench.laravel.event(session, "session_ready") == ready

    status, about = await bench.get(f"/api/sessions/{session}/status")
    moments = about.pop("connected_at"), about.pop("last_activity")
    assert all(moment.endswith("Z") for moment in moments)
    assert (status, about) == (200, {**told, "status": "connected", "phone_number": phone})
    assert await bench.get(path) == (404, {"success": False, "error": "the session shows no code: it is connected"})
    status, listed = await bench.get("/api/sessions")
    assert (status, listed["total"]) == (200, len(listed["sessions"]))
    assert {**about, "connected_at": moments[0]}.items() <= next(
        one for one in listed["sessions"] if one["session_id"] == session
    ).items()
    assert bench.laravel.refused == []
    assert all(one["x-instance-url"] == "http://127.0.0.1:3000" for one in bench.laravel.headers)


async def test_a_code_that_is_asked_for_anew_is_another_one_and_a_typed_one_pairs_as_well(bench: Bench) -> None:
    session, phone = new()
    await bench.start(session)
    first = await bench.code(session)

    seen = len(bench.laravel.events)
    status, answer = await bench.post(f"/api/sessions/{session}/regenerate-qr", {"workspace_id": 7})
    expected = {"success": True, "session_id": session, "status": "qr_scanning", "expires_in": 300}
    assert (status, answer) == (200, expected)
    await bench.laravel.event(session, "qr_code_generated", after=seen)
    await until(lambda: bench.login(session).code not in (None, first), timeout=120)

    path = f"/api/sessions/{session}/pairing-code"
    error = "phone_number has 5 to 20 digits, with the code of its country"
    assert await bench.post(path, {"phone_number": "my own"}) == (400, {"success": False, "error": error})
    with bench.whatsapp.refusing():
        assert await bench.post(path, {"phone_number": phone}) == (422, {"success": False, "error": "rate-overlimit"})

    status, answer = await bench.post(path, {"phone_number": f"+{phone}"})
    assert (status, answer["success"], len(answer["code"])) == (200, True, 8)
    await bench.whatsapp.type_in(answer["code"])
    await bench.stands(session, "connected")
    assert bench.login(session).phone == phone
    error = "the session is connected: a phone is paired while it shows a code"
    assert await bench.post(path, {"phone_number": phone}) == (400, {"success": False, "error": error})


async def test_a_text_is_sent_once_under_the_id_that_its_caller_made(connected: tuple[str, str], bench: Bench) -> None:
    session, phone = connected
    seen = len(bench.laravel.events)
    body, caller = _to(session, "a text"), {"x-sluice-message-id": "order-17"}

    answers = [await bench.post("/api/messages/send", body, **caller) for _ in range(3)]
    assert [(status, answer["message_id"]) for status, answer in answers] == [(200, "order-17")] * 3
    assert answers[0][1].keys() == {"success", "message_id", "timestamp"}
    (sent,) = (one for one in bench.whatsapp.sent if one.body == "a text")
    assert (sent.phone, sent.to, sent.type) == (phone, "628777000@c.us", "chat")

    message = (await bench.laravel.event(session, "message_sent", after=seen))["message"]
    assert message.pop("timestamp") > 0
    assert message == {
        "id": "order-17",
        "from": CHAT,
        "to": CHAT,
        "body": "a text",
        "from_me": True,
        "type": "chat",
        "has_media": False,
        "chat_type": "private",
        "status": message["status"],
    }
    for ack in (2, 3):
        bench.whatsapp.tell(phone, "receipt", {"id": sent.id, "ack": ack})
    await bench.laravel.event(session, "message_status_updated", after=seen, status="read")
    told = [data for _, data in bench.laravel.of(session, "message_status_updated", after=seen)]
    assert {one["message_id"] for one in told} == {"order-17"}
    assert [(one["status"], one["ack_level"]) for one in told] == [("sent", 2), ("delivered", 3), ("read", 4)]


async def test_each_level_of_acknowledgement_is_told_as_the_contract_has_it(
    connected: tuple[str, str], bench: Bench
) -> None:
    session, phone = connected
    expected = [("delivered", 3), ("read", 4), ("played", 5), *([("failed", 0)] * 7)]
    status, _ = await bench.post("/api/messages/send", _to(session, "levels"), **{"x-sluice-message-id": "order-22"})
    assert status == 200
    (sent,) = (one for one in bench.whatsapp.sent if one.body == "levels")
    seen = len(bench.laravel.events)
    for ack in (2, 3, 4, 5, *range(-1, -8, -1)):  # 5: another device of the sender has it
        bench.whatsapp.tell(phone, "receipt", {"id": sent.id, "ack": ack})

    def told() -> list[tuple[str, int]]:
        found = bench.laravel.of(session, "message_status_updated", after=seen)
        return [(one["status"], one["ack_level"]) for _, one in found if one["message_id"] == "order-22"]

    def all_told() -> bool:
        return len([one for one in told() if one != ("sent", 2)]) >= len(expected)

    await until(all_told, timeout=120, what=lambda: f"{told()}")
    assert [one for one in told() if one != ("sent", 2)] == expected


async def test_a_text_without_an_id_has_the_one_that_whatsapp_knows_it_by(
    connected: tuple[str, str], bench: Bench
) -> None:
    session, _ = connected
    status, answer = await bench.post("/api/messages/send", _to(session, "no id"))
    assert status == 200
    assert [one.id for one in bench.whatsapp.sent if one.body == "no id"] == [answer["message_id"]]


async def test_a_message_that_whatsapp_does_not_take_is_refused_and_stays_so(
    connected: tuple[str, str], bench: Bench
) -> None:
    session, _ = connected
    body, caller = _to(session, "refused"), {"x-sluice-message-id": "order-18"}
    error = {"success": False, "error": "WhatsApp did not take the message (ERROR_UNKNOWN)"}
    with bench.whatsapp.refusing():
        assert await bench.post("/api/messages/send", body, **caller) == (422, error)

    error = {"success": False, "error": "WhatsApp has not taken this message before: send it under another id"}
    assert await bench.post("/api/messages/send", body, **caller) == (422, error)
    assert _sent(bench, "refused") == 0


async def test_media_are_fetched_and_sent_once(connected: tuple[str, str], bench: Bench) -> None:
    session, _ = connected
    bench.laravel.files |= {"picture.png": PNG, "bill.pdf": b"%PDF-1.4"}
    path, url = "/api/messages/send-media", f"{bench.gateway}/files"
    about = {"session_id": session, "recipient_phone": "628777000"}
    picture = {**about, "media_url": f"{url}/picture.png", "caption": "a picture"}
    for _ in range(2):
        status, answer = await bench.post(path, picture, **{"x-sluice-message-id": "order-19"})
        assert (status, answer["message_id"]) == (200, "order-19")
    bill = {**about, "media_url": f"{url}/bill.pdf", "filename": "your bill.pdf"}
    assert (await bench.post(path, bill))[0] == 200

    sent = [one for one in bench.whatsapp.sent if one.data]
    assert [(one.type, one.mimetype, one.body) for one in sent] == [
        ("image", "image/png", "a picture"),
        ("document", "application/pdf", ""),
    ]
    assert [base64.b64decode(one.data or "") for one in sent] == [PNG, b"%PDF-1.4"]
    assert sent[1].filename == "your bill.pdf"

    missing = {**about, "media_url": f"{url}/nothing.png"}
    error = {"success": False, "error": "media_url: it was answered 404"}
    assert await bench.post(path, missing) == (400, error)
    file = {**about, "media_url": "file:///etc/passwd"}
    error = {"success": False, "error": "media_url: it is no address that begins with http:// or https://"}
    assert await bench.post(path, file) == (400, error)


async def test_many_are_sent_one_after_the_other_and_each_once(connected: tuple[str, str], bench: Bench) -> None:
    session, _ = connected
    recipients = ["628777001", "nobody", "628777002"]
    body = {"session_id": session, "recipients": recipients, "message": "to many"}
    for _ in range(2):
        status, answer = await bench.post("/api/messages/bulk-send", body, **{"x-sluice-message-id": "campaign-1"})
        assert status == 200
        assert answer == {
            "success": True,
            "total": 3,
            "successful": 2,
            "failed": 1,
            "results": [
                {"recipient": "628777001", "message_id": "campaign-1.0", "success": True},
                {"recipient": "628777002", "message_id": "campaign-1.2", "success": True},
            ],
            "errors": [
                {
                    "recipient": "nobody",
                    "error": "recipient_phone is no phone number with the code of its country, and no chat",
                }
            ],
        }
    assert [one.to for one in bench.whatsapp.sent if one.body == "to many"] == ["628777001@c.us", "628777002@c.us"]


async def test_what_arrives_is_told_in_the_shape_of_the_contract(connected: tuple[str, str], bench: Bench) -> None:
    session, phone = connected
    seen = len(bench.laravel.events)
    text = await bench.whatsapp.incoming(phone, CHAT, "good morning")
    said = await bench.whatsapp.incoming(phone, GROUP, "all", author="628777003@c.us", name="Ayu")
    picture = {"mimetype": "image/png", "data": base64.b64encode(PNG).decode(), "filename": "sun.png"}
    media = await bench.whatsapp.incoming(phone, CHAT, "", type="image", caption="the sun", **picture)
    await until(lambda: len(bench.laravel.of(session, "message_received", after=seen)) == 3, timeout=120)

    told = [data["message"] for _, data in bench.laravel.of(session, "message_received", after=seen)]
    assert all(message.pop("timestamp") > 0 for message in told)
    about = {"from": CHAT, "to": f"{phone}@c.us", "from_me": False, "has_media": False}
    assert told[0] == {**about, "id": text, "body": "good morning", "type": "chat", "chat_type": "private"}
    of_group = {"group_id": GROUP, "sender_phone": "628777003", "sender_name": "Ayu", "chat_type": "group"}
    assert told[1] == {**about, "id": said, "from": GROUP, "body": "all", "type": "chat", **of_group}
    of_media = {"type": "image", "has_media": True, "chat_type": "private", "media": picture}
    assert told[2] == {**about, "id": media, "body": "the sun", **of_media}


async def test_typing_is_told_once_for_each_change(connected: tuple[str, str], bench: Bench) -> None:
    session, phone = connected
    await bench.whatsapp.incoming(phone, CHAT, "who types next")
    await until(lambda: (phone, CHAT) in bench.whatsapp.subscribed, timeout=120)
    seen = len(bench.laravel.events)
    for state in ("composing", "paused"):
        bench.whatsapp.tell(phone, "presence", {"chat": CHAT, "state": state})
    await bench.laravel.event(session, "chat_state_updated", after=seen, chat_state="paused")

    told = bench.laravel.of(session, "typing_indicator", "chat_state_updated", after=seen)
    about = {"workspace_id": 7, "session_id": session, "chat_id": CHAT}
    assert all(data.pop("last_seen", 1) > 0 for _, data in told)
    assert told == [
        ("typing_indicator", {**about, "contact_id": CHAT, "is_typing": True}),
        ("chat_state_updated", {**about, "chat_state": "composing"}),
        ("typing_indicator", {**about, "contact_id": CHAT, "is_typing": False}),
        ("chat_state_updated", {**about, "chat_state": "paused"}),
    ]


async def test_how_a_session_stands_is_answered_as_the_contract_has_it(
    connected: tuple[str, str], bench: Bench
) -> None:
    session, phone = connected
    status, answer = await bench.get(f"/api/messages/{session}/validate")
    activity = answer.pop("last_activity")
    about = {"success": True, "session_id": session, "status": "connected", "phone_number": phone}
    assert (status, answer) == (200, {**about, "can_send": True, "is_healthy": True, "recommendations": []})
    data = {"session_id": session, "last_activity": activity}
    path = f"/api/internal/sessions/{session}/last-activity"
    assert await bench.get(path) == (200, {"success": True, "data": data})
    placeholder = {"success": True, "session_id": session, "message_id": "m", "session_status": "connected"}
    assert await bench.get(f"/api/messages/{session}/status?message_id=m") == (200, placeholder)

    path = f"/api/sessions/{session}/metadata"
    kept = {"success": True, "session_id": session, "metadata": {"label": "shop"}}
    assert await bench.put(path, {"updates": {"label": "shop"}}) == (200, kept)
    assert await bench.get(path) == (200, kept)
    status, health = await bench.get("/health")
    assert (status, health["status"]) == (200, "healthy")
    assert health["sessions"]["connected"] >= 1
    assert (await bench.get("/health/detailed"))[1].keys() == health.keys()
    for path in ("/health/ready", "/health/live"):
        assert await bench.get(path) == (200, {"ready": True, "alive": True})


async def test_whoever_does_not_run_a_session_says_so(connected: tuple[str, str], bench: Bench) -> None:
    session, _ = connected
    not_ours = (421, {"success": False, "error": "not the owner"})
    assert await bench.get("/api/sessions/webjs_7_1_elsewhere/status") == not_ours
    assert await bench.post("/api/messages/send", _to("webjs_7_1_elsewhere")) == not_ours
    assert await bench.post("/api/messages/send", _to(session), **{"x-sluice-fence": "99"}) == not_ours


async def test_what_a_page_tells_of_crashes_goes_nowhere(connected: tuple[str, str], bench: Bench) -> None:
    """And it does not call itself headless."""
    session, _ = connected
    tries = "(async () => { try { return (await fetch('%s', {mode: 'no-cors'})).type; } catch { return 'failed'; } })()"
    assert await bench.evaluate(session, tries % "https://crashlogs.whatsapp.net/wa") == "failed"
    assert await bench.evaluate(session, tries % "https://dit.whatsapp.net/") == "failed"
    assert await bench.evaluate(session, tries % "https://media.whatsapp.net/") == "opaque"
    assert "Headless" not in await bench.evaluate(session, "navigator.userAgent")


async def test_a_session_that_is_opened_again_needs_no_code_and_misses_and_doubles_nothing(bench: Bench) -> None:
    session, phone = new()
    await bench.pair(session, phone)
    before = await bench.whatsapp.incoming(phone, CHAT, "before")
    await bench.laravel.event(session, "message_received")
    body, caller = _to(session, "across a restart"), {"x-sluice-message-id": "order-20"}
    group = {**_to(session, "to a group, across a restart"), "recipient_phone": GROUP}
    assert (await bench.post("/api/messages/send", body, **caller))[0] == 200
    assert (await bench.post("/api/messages/send", group, **caller))[0] == 200

    seen = len(bench.laravel.events)
    status, answer = await bench.post(f"/api/sessions/{session}/reconnect", {"workspace_id": 7})
    assert (status, answer) == (200, {"success": True, "session_id": session, "status": "qr_scanning"})
    await until(lambda: not bench.whatsapp.is_connected(phone), timeout=120, what="its browser to be closed")
    during = await bench.whatsapp.incoming(phone, CHAT, "while it was reconnected")
    await bench.laravel.event(session, "session_ready", after=seen)

    await bench.end()
    meanwhile = await bench.whatsapp.incoming(phone, CHAT, "while nobody ran it")
    await bench.begin()
    bench.fences[session] += 1
    await bench.worker.start(session, bench.fences[session])
    await bench.stands(session, "connected")
    await bench.online(phone)
    after = await bench.whatsapp.incoming(phone, CHAT, "after")
    for text in (body, group):
        status, answer = await bench.post("/api/messages/send", text, **caller)
        assert (status, answer.get("message_id")) == (200, "order-20"), answer

    def received() -> list[str]:
        return [data["message"]["id"] for _, data in bench.laravel.of(session, "message_received")]

    await until(lambda: {before, during, meanwhile, after} <= {*received()}, timeout=120, what=lambda: f"{received()}")
    assert list(dict.fromkeys(received())) == [before, during, meanwhile, after]
    assert received().count(meanwhile) == received().count(after) == 1
    told = bench.laravel.of(session, "message_received", "message_sent")
    for number, (_, data) in enumerate(told):  # what is told once more is the same, by which the relay knows it
        message = data["message"]
        known = [one["message"] for _, one in told[:number] if one["message"]["id"] == message["id"]]
        other = [one for one in known if one["from"] == message["from"] and one != message]
        assert not other, f"{other} {message} {bench.whatsapp.sent}"
    assert _sent(bench, "across a restart") == _sent(bench, "to a group, across a restart") == 1
    assert not bench.laravel.of(session, "qr_code_generated", after=seen)


async def test_a_chat_that_whatsapp_calls_by_another_name_is_sent_to_once(bench: Bench) -> None:
    session, phone = new()
    bench.whatsapp.modes[phone] = {"lid": True}
    await bench.pair(session, phone)
    for _ in range(2):
        status, answer = await bench.post(
            "/api/messages/send", _to(session, "by its lid"), **{"x-sluice-message-id": "order-21"}
        )
        assert (status, answer.get("message_id")) == (200, "order-21"), answer
    assert [one.to for one in bench.whatsapp.sent if one.body == "by its lid"] == ["7628777000@lid"]


@pytest.mark.parametrize("how", ["deleted", "logged out"])
async def test_a_session_that_is_ended_is_logged_out_and_its_login_is_gone(bench: Bench, how: str) -> None:
    session, phone = new()
    await bench.pair(session, phone)
    path = f"/api/sessions/{session}"
    status, answer = await (bench.delete(path) if how == "deleted" else bench.post(f"{path}/logout", {}))
    assert (status, answer) == (200, {"success": True, "session_id": session, "message": "Session disconnected"})
    assert not bench.whatsapp.is_connected(phone)
    assert session not in bench.fences
    assert not bench.profile(session).exists()
    status, listed = await bench.get("/api/sessions")
    assert session not in {one["session_id"] for one in listed["sessions"]}

    await bench.start(session)
    await bench.code(session)
    await bench.delete(f"/api/sessions/{session}")
    assert not bench.profile(session).exists()
