"""Login by a cookie: given for a token, bounded, sealed, ended by another token, and of no use to other pages."""

from __future__ import annotations

import time
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.policies import ConsolePolicy
from gateway.resources import Resources
from gateway.tokens import TokenGuard
from sluice.config import Secret
from sluice.console.access import COOKIE, CSRF, LIFE, log_in, may_change, person
from sluice.console.audit import path_of
from sluice.http.problem import Refusal
from sluice.store.client import Store
from tests.gateway.making import a_client
from tests.sluice.console.deployment import TOKEN, parts_on, policies_in
from tests.sluice.console.test_http import BEARER, http, served

__all__ = ["http"]
pytestmark = pytest.mark.anyio
POLICY = ConsolePolicy(Secret(b"to operate"), Secret(b"to read"))
HOLD = {"hold": "open"}
READS_ONLY = "console.read may look and change nothing; log in with console.token"


async def logged_in(http: httpx2.AsyncClient, token: str = TOKEN) -> dict[str, Any]:
    answer = await http.post("/_sluice/login", json={"token": token})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_a_cookie_opens_the_api_and_is_kept_from_scripts_and_other_pages(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/_sluice/login", json={"token": TOKEN})
    (kept,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (kept.key, kept["path"], kept["samesite"], kept["max-age"]) == (COOKIE, "/_sluice/", "strict", str(LIFE))
    assert (kept["httponly"], kept["secure"]) == (True, "")
    assert TOKEN not in answer.headers["set-cookie"]
    assert answer.json().keys() == {"role", "ends_at", "csrf"}
    assert (await http.get("/_sluice/api/status")).status_code == 200
    again = await http.get("/_sluice/login")
    assert again.json() == answer.json()


async def test_over_tls_the_cookie_stays_there(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/_sluice/login", json={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
    (kept,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert kept["secure"] is True


async def test_who_logs_out_is_out(http: httpx2.AsyncClient) -> None:
    await logged_in(http)
    assert (await http.post("/_sluice/logout")).status_code == 204
    assert (await http.get("/_sluice/api/status")).status_code == 401
    assert (await http.get("/_sluice/login")).json()["detail"] == "send Authorization: Bearer <console.token>"


async def test_a_change_needs_the_token_of_its_login(http: httpx2.AsyncClient, parts: Resources) -> None:
    login = await logged_in(http)
    for headers in ({}, {CSRF: "guessed"}, {CSRF: ""}):
        answer = await http.post("/_sluice/api/circuits/laravel", json=HOLD, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (
            *(403, "a change needs the X-CSRF-Token of its login; load the page again"),
        )
    answer = await http.post("/_sluice/api/circuits/laravel", json=HOLD, headers={CSRF: login["csrf"]})
    assert (answer.status_code, answer.json()["changed"]) == (200, True)
    assert b'"through":"page"' in path_of(parts.policies).read_bytes()


async def test_a_wrong_token_is_told_and_limited_as_it_is_elsewhere(http: httpx2.AsyncClient) -> None:
    answers = [await http.post("/_sluice/login", json={"token": "guessed"}) for _ in range(11)]
    assert [one.status_code for one in answers] == [401] * 10 + [429]
    assert answers[0].json()["detail"] == "send Authorization: Bearer <console.token>"
    assert answers[10].json()["detail"].startswith("too many wrong tokens came from 127.0.0.1 (admin.refused)")
    assert (await http.post("/_sluice/login", json={"token": TOKEN})).status_code == 429


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tokn": "x"}', b"token=x", b"null", b"3"])
async def test_a_login_that_is_none_is_told_so(http: httpx2.AsyncClient, body: bytes) -> None:
    answer = await http.post("/_sluice/login", content=body)
    assert (answer.status_code, answer.json()["detail"]) == (400, 'send {"token": "…"}')
    assert (await http.post("/_sluice/login", content=b"x" * 5000)).status_code == 413


async def test_who_may_read_looks_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    policies = policies_in(tmp_path, "console: {token: env:TOKEN, read: env:VAULT_KEY}\n")
    reading = policies.console.read
    assert reading is not None
    async with served(parts_on(store, policies)) as http:
        login = await logged_in(http, reading.reveal().decode())
        assert login["role"] == "reader"
        assert (await http.get("/_sluice/api/status")).status_code == 200
        by_cookie = {CSRF: login["csrf"]}
        by_token = {"Authorization": f"Bearer {reading.reveal().decode()}"}
        for headers in (by_cookie, by_token):
            answer = await http.post("/_sluice/api/circuits/laravel", json=HOLD, headers=headers)
            assert (answer.status_code, answer.json()["detail"]) == (403, READS_ONLY)
        circuits = (await http.get("/_sluice/api/circuits", headers=BEARER)).json()["circuits"]
        assert circuits[0]["held"] is False


def status_of(cookie: str, policy: ConsolePolicy = POLICY, now: float = 0.0) -> int:
    try:
        person("", f"a=b; {COOKIE}={cookie}", policy, TokenGuard(), a_client(), 0.0, now)
    except Refusal as refusal:
        return refusal.status
    return 200


def test_a_cookie_holds_for_its_time_and_for_its_token() -> None:
    for role in ("operator", "reader"):
        login = log_in(role, POLICY, 1000.0)
        assert [status_of(login.cookie, now=now) for now in (1000, 999 + LIFE, 1000 + LIFE)] == [200, 200, 401]
        other = ConsolePolicy(Secret(b"another"), Secret(b"another to read"))
        assert status_of(login.cookie, other) == 401
    reader = log_in("reader", POLICY, 1000.0)
    for read in (None, Secret(b"")):
        assert status_of(reader.cookie, ConsolePolicy(POLICY.token, read)) == 401
    assert status_of(reader.cookie, ConsolePolicy(None, POLICY.read)) == 403


@pytest.mark.parametrize("role", ["operator", "reader"])
def test_nothing_in_a_cookie_can_be_changed(role: str) -> None:
    cookie = log_in("reader" if role == "reader" else "operator", POLICY, time.time()).cookie
    name, ends, nonce, seal = cookie.split(".")
    other = "operator" if role == "reader" else "reader"
    changed = [
        f"{other}.{ends}.{nonce}.{seal}",
        f"{name}.{int(ends) + 1}.{nonce}.{seal}",
        f"{name}.{ends}.x{nonce}.{seal}",
        f"{name}.{ends}.{nonce}.{'0' * 64}",
        *("", ".", "...", "reader...", name, f"{name}.x.{nonce}.{seal}", "é"),
    ]
    assert [status_of(one, now=time.time()) for one in changed] == [401] * len(changed)


def test_a_bearer_token_needs_no_other_proof() -> None:
    someone = person("Bearer to operate", "", POLICY, TokenGuard(), a_client(), 0.0, 0.0)
    assert (someone.through, someone.token) == ("api", "console.token")
    may_change(someone, "")


def test_the_role_of_a_cookie_is_the_one_of_its_token() -> None:
    guard = TokenGuard()
    login = log_in("reader", POLICY, 0.0)
    someone = person("", f"{COOKIE}={login.cookie}", POLICY, guard, a_client(), 0.0, 0.0)
    assert (someone.role, someone.through, someone.token) == ("reader", "page", "console.read")
    with pytest.raises(Refusal, match="may look and change nothing"):
        may_change(someone, login.csrf)
