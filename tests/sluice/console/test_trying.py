"""Another text of the policies, tried by the log of this machine; who is near a limit; a request explained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.policies import Policies, load
from gateway.resources import Resources
from sluice.config import last_good
from sluice.console import policies_trial
from sluice.console.actions import trying
from sluice.console.operations import API
from tests.sluice.console.deployment import TOKEN, VAULT_KEY
from tests.sluice.console.test_http import BEARER, http

__all__ = ["http"]
pytestmark = pytest.mark.anyio
TEXT = """version: 1
console: {token: env:TOKEN, read: env:READ}
upstreams: {laravel: {url: "http://127.0.0.1:8000"}}
routes:
  - {path: /api/send, methods: [POST], event: send, session: {json: /session}, upstream: laravel}
limits:
  - {id: send, event: send, per: [session], rate: 1/hour, burst: 5}
"""
READER = {b"Authorization": b"Bearer " + VAULT_KEY.encode()}


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policies:
    file = tmp_path / "policies.yaml"
    file.write_text(TEXT)
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("READ", VAULT_KEY)
    return load(file)


def sends(many: int, session: str, ago: float = 60.0, **more: Any) -> Iterator[bytes]:
    for i in range(many):
        at = datetime.fromtimestamp(time.time() - ago + i / 100, UTC).isoformat()
        row = {"at": at, "msg": "request", "method": "POST", "path": "/api/send", "status": 200, "client": "192.0.2.7"}
        yield orjson.dumps({**row, "event": "send", "session": session, "request_id": "1", **more}) + b"\n"


def write(policies: Policies, *lines: bytes, name: str = "gateway.jsonl") -> None:
    logs = policies.data / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / name).write_bytes(b"".join(lines))


async def tried(http: httpx2.AsyncClient, text: str, **more: Any) -> dict[str, Any]:
    answer = await http.post(f"{API}/policies/try", json={"text": text, **more}, headers=BEARER, timeout=120)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_edit_is_told_with_its_changes_and_whom_it_would_have_refused(
    http: httpx2.AsyncClient, policies: Policies
) -> None:
    write(policies, *sends(9, "old", ago=7200), *sends(7, "s1"), *sends(1, "s2", ago=50, status=429))
    write(policies, *sends(2, "s3", ago=40), name="gateway-2.jsonl")
    found = await tried(http, policies.source.read_text().replace("burst: 5", "burst: 1"))
    assert (found["valid"], found["in_force"], found["problems"]) == (True, policies.revision, [])
    assert found["changes"] == [{"key": "limits.send.burst", "old": "5", "new": "1", "needs_restart": False}]
    log = found["log"]
    assert (log["requests"], log["refused_then"], log["refused"], log["refused_in_force"]) == (10, 1, 7, 2)
    assert log["complete"] is True
    (limit,) = log["limits"]
    assert (limit["tried"]["passed"], limit["in_force"]["passed"]) == (3, 8)
    assert limit["worst"] == [
        {"subject": "s1", "times": 6, "in_force": 2},
        {"subject": "s3", "times": 1, "in_force": 0},
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("rate: 1/hour", "rate: often", (7, "limits[0].rate")),
        ("limits:", "limit:", (6, "limit")),
        ("env:READ", "env:ABSENT", (2, "console.read")),
        ("version: 1", "version: [", (3, "")),
    ],
)
async def test_a_mistake_is_told_with_its_line_and_its_cure(
    http: httpx2.AsyncClient, policies: Policies, old: str, new: str, problem: tuple[int, str]
) -> None:
    found = await tried(http, policies.source.read_text().replace(old, new, 1))
    assert (found["valid"], found["changes"], found["log"], found["revision"]) == (False, None, None, None)
    first = found["problems"][0]
    assert (first["line"], first["key"]) == problem
    assert first["message"]
    assert first["hint"]


async def test_what_is_in_force_is_found_while_its_file_is_wrong_and_a_log_that_is_not_there_is_said(
    http: httpx2.AsyncClient, policies: Policies
) -> None:
    text = policies.source.read_text()
    last_good.keep(policies.source, policies.revision, policies.data)
    policies.source.write_text("version: 7\n")
    shown = (await http.get(f"{API}/policies", headers=READER)).json()
    assert shown == {"source": str(policies.source), "revision": policies.revision, "text": text}
    found = await tried(http, text + "# the same\n")
    assert (found["changes"], found["log"]) == ([], None)
    (policies.data / last_good.NAME).unlink()
    assert (await http.get(f"{API}/policies", headers=READER)).json()["text"] is None
    assert (await tried(http, text))["changes"] is None
    answer = await http.get(f"{API}/limits/nearest", headers=BEARER, timeout=120)
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "the text of the policies in force is not there any more; restart Sluice, or put their file right",
    )


async def test_only_an_operator_tries_and_no_trial_is_in_the_audit_log(
    http: httpx2.AsyncClient, policies: Policies
) -> None:
    answer = await http.post(f"{API}/policies/try", json={"text": "version: 1"}, headers=READER)
    assert answer.status_code == 403
    await tried(http, "version: 1\n")
    assert not (policies.data / "logs" / "audit.jsonl").exists()
    answer = await http.post(f"{API}/policies/try", json={"text": ""}, headers=BEARER)
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        'text: "" is not a text of at most 1000000 characters',
    )


def test_a_password_in_an_address_is_not_shown_and_comes_back() -> None:
    text = TEXT + 'store: {url: "redis://user:hidden@127.0.0.1:6379/0"}\n'
    shown = trying._masked(text)
    assert "hidden" not in shown
    assert "redis://user:***@127.0.0.1:6379/0" in shown
    assert trying._unmasked(shown.replace("burst: 5", "burst: 6"), text) == text.replace("burst: 5", "burst: 6")


def test_of_a_long_log_the_newest_requests_are_looked_at(policies: Policies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies_trial, "MAX_REQUESTS", 3)
    write(policies, *sends(5, "s1"))
    asked = {"source": str(policies.source), "data": str(policies.data), "new": None, "since": 0.0, "secrets": False}
    log = policies_trial.try_out({**asked, "old": policies.source.read_text()})["log"]
    assert (log["complete"], log["old"]["requests"]) == (False, 3)


async def test_no_more_than_two_are_tried_at_once(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "_under_way", {object(), object()})
    answer = await http.post(f"{API}/policies/try", json={"text": "version: 1"}, headers=BEARER)
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "two trials of policies are under way in this gateway; try again when they are over",
    )


async def test_who_is_nearest_to_a_limit_is_told_with_the_level_of_the_store(
    http: httpx2.AsyncClient, parts: Resources, policies: Policies
) -> None:
    write(policies, *sends(3, "s1"), *sends(9, "s2"))
    await parts.store.commands(("FLUSHALL",))
    answer = await http.get(f"{API}/limits/nearest", headers=READER, timeout=120)
    assert answer.status_code == 200
    found = answer.json()
    assert found["requests"] == 12
    known = [(one["session"], one["requests"], one["refused"], one["bucket"]["level"]) for one in found["subjects"]]
    assert known == [("s2", 9, 4, 5), ("s1", 3, 0, 5)]


async def test_a_request_is_explained_also_to_who_may_only_look(http: httpx2.AsyncClient) -> None:
    asked = {"method": "post", "path": "/api/send", "body": '{"session": "s1"}', "headers": ["X-A: 1"]}
    answer = await http.post(f"{API}/explain", json=asked, headers=READER)
    found = answer.json()
    assert (answer.status_code, found["route"], found["line"]) == (200, "/api/send", 5)
    assert (found["outcome"], found["session"]) == ("passed on to upstream laravel", "s1")
    assert [(one["id"], one["how"], one["level"]) for one in found["limits"]] == [("send", "enforced", 5)]


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        ({"path": "api"}, 'path: "api" does not begin with /'),
        ({"path": "/", "ip": "here"}, 'ip: "here" is not an address; write 203.0.113.7 or 2001:db8::1'),
        ({"path": "/", "headers": ["X-A"]}, 'headers: "X-A" is not a header; write Name: value'),
        ({"path": "/", "on": "x"}, 'on: no listener is called "x"; there are: 127.0.0.1:8080'),
    ],
)
async def test_what_cannot_be_a_request_is_refused(
    http: httpx2.AsyncClient, asked: dict[str, Any], detail: str
) -> None:
    answer = await http.post(f"{API}/explain", json=asked, headers=BEARER)
    assert answer.json()["detail"] == detail
