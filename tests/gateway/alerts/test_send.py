"""Every way out, to real receivers: what comes back, what is refused, what hangs, and what strangers wrote."""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Callable
from email import message_from_bytes, policy as mail_policy
from pathlib import Path

import orjson
import pytest
from hypothesis import given, strategies as st

from gateway.alerts import command, rendering, send as sending
from gateway.alerts.send import SendFailed, send
from gateway.alerts.webhook import beat
from gateway.policies import Policies, load
from sluice.config import Secret
from sluice.http.signatures import refusal
from tests.gateway.alerts.making import a_due
from tests.gateway.alerts.sinks import mailbox, webhook
from tests.waiting import until

pytestmark = pytest.mark.anyio

HOSTILE = "s\r\nBcc: all@example.com\x1b[2J <!channel> <http://evil|here> @everyone & \u202e \u2028 \ud83d"
NOW = 1_700_000_000.0


def policies(folder: Path, alerts: str, **environment: str) -> Policies:
    file = folder / "policies.yaml"
    file.write_text(f"version: 1\nsignatures: {{mine: {{secret: env:SECRET}}}}\nalerts: {{{alerts}}}\n")
    return load(file, environment={"SECRET": "a secret of over sixteen bytes", **environment})


async def notified(found: Policies, text: str = "its circuit is open", **how: str) -> str:
    (receiver,) = found.alerts.receivers.values()
    return await send(found, receiver, [a_due(text=text, **how)], NOW, "gateway-1")


# --- webhooks


async def test_a_webhook_gets_text_for_people_and_fields_for_programs(tmp_path: Path) -> None:
    async with webhook() as sink:
        found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK}}", HOOK=sink.url)
        assert await notified(found) == "answered 200 ok"
        head, (message,) = sink.receiver.heads[0], sink.messages
    assert head.startswith(b"POST /services/T0/secret?token=hidden HTTP/1.1\r\n")
    assert b"Content-Type: application/json" in head
    assert message.pop("alerts") == [
        {
            "id": rendering.identity(a_due()),
            "event": "firing",
            "kind": "circuit_open",
            "subject": "laravel",
            "machine": None,
            "text": "its circuit is open",
            "since": "2023-11-14T22:13:20Z",
        }
    ]
    text = "Wrong: its circuit is open"
    at = "2023-11-14T22:13:20Z"
    assert message == {"text": text, "mrkdwn": False, "kind": "alerts", "at": at, "from": "gateway-1"}


async def test_it_is_signed_where_that_is_asked_for(tmp_path: Path) -> None:
    async with webhook() as sink:
        found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK, sign: mine}}", HOOK=sink.url)
        await notified(found)
        lines = sink.receiver.heads[0].split(b"\r\n")[1:-2]
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        assert refusal(found.signatures["mine"], headers, sink.receiver.bodies[0], time.time()) is None


@pytest.mark.parametrize(
    ("status", "fields", "why"),
    [
        ("500 Oops", (), "answered 500 no <b>\\x1b"),
        ("404 Gone", (), "answered 404 no <b>\\x1b"),
        (
            "302 Found",
            ("Location: http://169.254.169.254/",),
            "answered 302, which leads elsewhere, and is not followed: write the address it leads to",
        ),
    ],
)
async def test_what_a_webhook_does_not_take_is_told_without_its_secret(
    tmp_path: Path, status: str, fields: tuple[str, ...], why: str
) -> None:
    async with webhook() as sink:
        sink.answer(status, *fields, body="no <b>\x1b")
        found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK}}", HOOK=sink.url)
        with pytest.raises(SendFailed) as failed:
            await notified(found)
        assert str(failed.value) == why
        assert len(sink.receiver.heads) == 1


async def test_a_webhook_that_hangs_or_is_not_there_fails_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setattr(sending, "TIMEOUT", 0.3)
    async with webhook() as sink:
        sink.hang()
        found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK}}", HOOK=sink.url)
        with pytest.raises(SendFailed) as failed:
            await notified(found)
        assert "secret" not in str(failed.value)
    found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK}}", HOOK=f"http://127.0.0.1:{free_port()}/secret")
    with pytest.raises(SendFailed, match="127.0.0.1") as failed:
        await notified(found)
    assert "secret" not in str(failed.value)


async def test_over_https_only_a_certificate_that_can_be_trusted_is_told_anything(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with webhook(of_server(certificate)) as sink:
        assert sink.url.startswith("https://127.0.0.1:")
        found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK}}", HOOK=sink.url)
        with pytest.raises(SendFailed, match="its certificate is not trusted") as failed:
            await notified(found)
        assert "secret" not in str(failed.value)
        assert sink.receiver.heads == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert await notified(found) == "answered 200 ok"
        await beat(Secret(sink.url.encode()), 10.0)
    assert [head.split()[0] for head in sink.receiver.heads] == [b"POST", b"GET"]


async def test_an_answer_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    async with webhook() as sink:
        sink.receiver.response = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 100_000
        found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK}}", HOOK=sink.url)
        assert len(await notified(found)) < 300


async def test_a_test_is_marked_as_one(tmp_path: Path) -> None:
    async with webhook() as sink:
        found = policies(tmp_path, "receivers: {chat: {webhook: env:HOOK}}", HOOK=sink.url)
        (receiver,) = found.alerts.receivers.values()
        await send(found, receiver, [], NOW, "gateway-1")
        (message,) = sink.messages
    assert (message["kind"], message["alerts"]) == ("test", [])
    assert message["text"].startswith("Test: This is a test")


# --- what strangers wrote


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_strangers_write_is_text_in_a_chat(subject: str, text: str) -> None:
    due = a_due(subject, f"session {subject} {text}")
    message = orjson.loads(rendering.payload([due], NOW, "gateway-1"))
    assert "<" not in message["text"]
    assert ">" not in message["text"]
    assert "@" not in message["text"].replace("@\u200b", "")
    assert "\n" not in message["text"]
    assert "\x1b" not in message["text"]


@given(st.text(max_size=300))
def test_whatever_strangers_write_adds_no_line_to_the_head_of_a_mail(text: str) -> None:
    due = a_due(text, f"session {text}")
    made = rendering.mail([due], NOW, "gateway-1", "sluice@example.com", ["ops@example.com"])
    read = message_from_bytes(made.as_bytes(policy=mail_policy.SMTP), policy=mail_policy.default)
    names = ["Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted"]
    assert [name for name in read if name in names] == names
    assert {name.lower() for name in read} - {name.lower() for name in names} == {
        "content-type",
        "content-transfer-encoding",
        "mime-version",
    }
    assert read["To"] == "ops@example.com"


def test_hostile_text_is_escaped_everywhere() -> None:
    message = orjson.loads(rendering.payload([a_due(HOSTILE, HOSTILE)], NOW, "gateway-1"))
    shown = (
        "s\\x0d\\nBcc: all@\u200bexample.com\\x1b[2J &lt;!channel&gt; &lt;http://evil|here&gt; @\u200beveryone &amp;"
    )
    assert message["text"] == f"Wrong: {shown} \\u202e \\u2028 \\ud83d"


def test_many_are_told_in_one_message() -> None:
    dues = [a_due(str(number)) for number in range(50)]
    message = orjson.loads(rendering.payload(dues, NOW, "gateway-1"))
    assert message["text"].endswith("\nand 30 more")
    assert len(message["alerts"]) == 50
    made = rendering.mail(dues, NOW, "gateway-1", "sluice@example.com", ["ops@example.com"])
    assert made["Subject"] == "[Sluice] Wrong: its circuit is open (and 49 more)"


# --- mail


def of_mail(port: int, more: str = "tls: none") -> str:
    server = f"mail: {{server: 127.0.0.1:{port}, from: sluice@example.com, {more}}}"
    return f"{server}, receivers: {{ops: {{mail: [ops@example.com, cto@example.com]}}}}"


async def test_a_mail_arrives(tmp_path: Path) -> None:
    async with mailbox() as box:
        found = policies(tmp_path, of_mail(box.port))
        assert await notified(found, HOSTILE) == f"127.0.0.1:{box.port} took it"
    assert box.recipients == [["ops@example.com", "cto@example.com"]]
    read = message_from_bytes(box.messages[0], policy=mail_policy.default)
    assert read["Bcc"] is None
    assert read["Subject"].startswith("[Sluice] Wrong: s\\x0d\\nBcc: all@example.com")
    assert "  since 2023-11-14T22:13:20Z" in read.get_content()


def of_server(certificate: Path) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    return tls


@pytest.mark.parametrize("at_once", [False, True], ids=["starttls", "tls"])
async def test_it_logs_in_where_it_is_encrypted_to_whom_it_trusts(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    login = f"user: sluice, password: env:PASSWORD, tls: {'tls' if at_once else 'starttls'}"
    async with mailbox(tls=of_server(certificate), tls_at_once=at_once) as box:
        found = policies(tmp_path, of_mail(box.port, login), PASSWORD="geheim")
        with pytest.raises(SendFailed, match="cannot be trusted"):
            await notified(found)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await notified(found)
    assert box.logins == ["\0sluice\0geheim"]
    assert box.encrypted == [True]


async def test_where_tls_is_asked_for_a_server_without_it_hears_nothing(tmp_path: Path) -> None:
    login = "tls: tls, user: sluice, password: env:PASSWORD"
    async with mailbox() as box:
        found = policies(tmp_path, of_mail(box.port, login), PASSWORD="geheim")
        with pytest.raises(SendFailed, match=rf"127.0.0.1:{box.port} cannot be trusted"):
            await notified(found)
    assert (box.messages, box.logins) == ([], [])


async def test_nothing_is_said_in_clear_where_starttls_is_asked_for(tmp_path: Path) -> None:
    async with mailbox() as box:
        found = policies(tmp_path, of_mail(box.port, "user: sluice, password: env:PASSWORD"), PASSWORD="geheim")
        with pytest.raises(SendFailed, match="STARTTLS") as failed:
            await notified(found)
        assert "geheim" not in str(failed.value)
        assert (box.messages, box.logins) == ([], [])


async def test_a_mail_server_that_refuses_says_why(tmp_path: Path) -> None:
    async with mailbox(refuses="550 no such \x1b[2Juser") as box:
        found = policies(tmp_path, of_mail(box.port))
        with pytest.raises(SendFailed, match=r"refused ops@example.com: 550 no such \\x1b\[2Juser") as failed:
            await notified(found)
    assert "\x1b" not in str(failed.value)


@pytest.mark.parametrize("word", ["EHLO", "DATA"])
async def test_a_mail_server_that_hangs_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(sending, "TIMEOUT", 0.5)
    async with mailbox(hangs_at=word) as box:
        found = policies(tmp_path, of_mail(box.port))
        with pytest.raises(SendFailed, match=r"did not take it within 0.5s|timed out"):
            await notified(found)


async def test_a_mail_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with mailbox() as box:
        pass
    with pytest.raises(SendFailed, match=rf"127.0.0.1:{box.port} cannot be reached"):
        await notified(policies(tmp_path, of_mail(box.port)))


# --- commands


def script(folder: Path, text: str) -> list[str]:
    file = folder / "page.py"
    file.write_text(text)
    return [sys.executable, str(file)]


async def test_a_command_gets_json_and_no_word_of_strangers_as_an_argument(tmp_path: Path) -> None:
    python = "import sys, pathlib\npathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())\nprint(len(sys.argv))"
    out = tmp_path / "$(touch owned); out"
    body = rendering.payload([a_due(HOSTILE, HOSTILE)], NOW, "gateway-1")
    assert await command.run([*script(tmp_path, python), str(out)], body, 30.0) == "ended with 0: 2"
    assert out.read_bytes() == body
    assert not (tmp_path / "owned").exists()


async def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    python = "import sys\nprint('first')\nprint('no \\x1b[2Jroute', file=sys.stderr)\nsys.exit(3)"
    with pytest.raises(SendFailed, match=r"ended with 3: no \\x1b\[2Jroute"):
        await command.run(script(tmp_path, python), b"{}", 30.0)


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "child"
    python = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(file)!r}, 'w').write(str(child.pid))\ntime.sleep(60)"
    )
    with pytest.raises(SendFailed, match="did not end within 3s, and was ended"):
        await command.run(script(tmp_path, python), b"{}" * 100_000, 3.0)
    stat = Path(f"/proc/{file.read_text()}/stat")
    await until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z")


async def test_a_command_that_says_too_much_is_ended(tmp_path: Path) -> None:
    with pytest.raises(SendFailed, match="said too much"):
        await command.run(script(tmp_path, "while True: print('x' * 1000)"), b"{}", 30.0)


async def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SendFailed, match=r"cannot be started \(no such file or directory\)"):
        await command.run([str(tmp_path / "none")], b"{}", 5.0)
    with pytest.raises(SendFailed, match=r"cannot be started \(permission denied\)"):
        await command.run([str(tmp_path)], b"{}", 5.0)
