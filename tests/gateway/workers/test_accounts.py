"""accounts/active: what Laravel answers reaches each worker without the sessions of the others."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

from gateway.workers import accounts
from sessions.divided import moments
from sessions.registry import ObservedSession, Registry, Unowned, Worker
from sluice.store.client import Store
from tests.gateway.running import POLICIES, Gate, Receiver, gateway, lines, problem
from tests.heard import Heard
from tests.sessions.making import place
from tests.sluice.store.store_servers import Server
from tests.waiting import until

pytestmark = pytest.mark.anyio

PATH = "/api/whatsapp/accounts/active"
NOBODY = "http://127.0.0.1:{port}"
"""Nobody listens there: such a worker is known not to answer at once."""


def text(*workers: str, more: str = "", lease: str = "15s") -> str:
    """Policies with these workers, each an item of the list in YAML."""
    items = "".join(f"    - {worker}\n" for worker in workers)
    section = f"sessions:\n  lease: {lease}\n  verify: workers\n{more}  workers:\n{items}"
    return POLICIES.replace("sessions: {{lease: 15s, verify: workers}}", section)


def named(number: int, port: int = 1) -> str:
    return f"{{{{name: w{number}, url: 'http://127.0.0.1:{port + number}', prefix: /w/w{number}}}}}"


TWO = text(named(1), named(2))


def account(session: str, workspace: int, **more: object) -> dict[str, object]:
    return {"id": 1, "session_id": session, "workspace_id": workspace, "provider_type": "webjs", **more}


def answering(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    fields = b"".join(header + b"\r\n" for header in (*headers, b"Content-Length: %d" % len(body)))
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%b\r\n%b" % (status, fields, body)


def listing(*items: object) -> bytes:
    return orjson.dumps({"success": True, "sessions": items, "count": len(items)})


FOUR = listing(*(account(f"s{i}", i) for i in range(4)))


async def told(gate: Gate, worker: str) -> list[str]:
    """What it is told to start."""
    answer = await gate.http.get(f"/w/{worker}{PATH}", headers={"X-API-Key": "k"})
    assert answer.status_code == 200, answer.text
    fields = answer.json()
    assert fields["count"] == len(fields["sessions"])
    assert fields["success"] is True
    return [item["session_id"] for item in fields["sessions"]]


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 600.0)


@pytest.fixture
async def divided(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    """A gateway with two named workers, in front of a Laravel with a session in each of four workspaces."""
    laravel.response = answering(FOUR)
    async with gateway(tmp_path, store_url, laravel.url, text=TWO) as gate:
        yield gate


async def lists(registry: Registry, number: int, *sessions: str) -> None:
    """A worker is seen to run these."""
    worker = Worker(f"w{number}", "observed", f"http://127.0.0.1:{1 + number}", 25)
    await registry.observe(worker, {session: ObservedSession("connected") for session in sessions})


# --- who gets what


async def test_sessions_that_nobody_knows_are_divided_as_laravel_divides(divided: Gate) -> None:
    assert await told(divided, "w1") == ["s0", "s2"]
    assert await told(divided, "w2") == ["s1", "s3"]


async def test_a_session_stays_with_the_worker_that_it_was_given_to(
    divided: Gate, tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    """Also where the policies name others by now, so that Laravel's way would give another one."""
    await told(divided, "w1")
    (tmp_path / "other").mkdir()
    async with gateway(tmp_path / "other", store_url, laravel.url, text=text(*map(named, (3, 2, 1)))) as gate:
        assert [await told(gate, worker) for worker in ("w1", "w2", "w3")] == [["s0", "s2"], ["s1", "s3"], []]


async def test_who_runs_a_session_keeps_it(divided: Gate, registry: Registry) -> None:
    await lists(registry, 2, "s0")
    assert await told(divided, "w1") == ["s2"]
    assert await told(divided, "w2") == ["s0", "s1", "s3"]


async def test_a_worker_that_is_started_again_gets_its_sessions_though_it_lists_none(
    divided: Gate, registry: Registry
) -> None:
    await lists(registry, 2, "s0", "s1")
    await lists(registry, 2)
    assert await told(divided, "w2") == ["s0", "s1", "s3"]
    assert await told(divided, "w1") == ["s2"]


async def test_the_sessions_of_a_lost_worker_wait_for_it(
    tmp_path: Path, store_url: str, laravel: Receiver, store: Store
) -> None:
    """Their logins lie on its disk."""
    laravel.response = answering(FOUR)
    quick = Registry(store, 1.0)
    await lists(quick, 2, "s0")
    await until(lambda: _is_unowned(quick, "s0"))
    async with gateway(tmp_path, store_url, laravel.url, text=text(named(1), named(2), lease="1s")) as gate:
        assert await told(gate, "w1") == ["s2"]
        assert "s0" in await told(gate, "w2")


async def _is_unowned(registry: Registry, session: str) -> bool:
    return isinstance(await registry.owner_of(session), Unowned)


async def test_a_session_of_a_worker_of_ours_is_in_no_answer(divided: Gate, registry: Registry) -> None:
    await registry.register(Worker("own", "1", "http://127.0.0.1:9", 25))
    await place(registry, "s0", {})
    assert await told(divided, "w1") == ["s2"]
    assert await told(divided, "w2") == ["s1", "s3"]


async def test_a_worker_that_was_renamed_is_known_by_its_address(
    divided: Gate, registry: Registry, tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    await lists(registry, 2, "s0")
    renamed = "{{name: new, url: 'http://127.0.0.1:3', prefix: /w/new}}"
    (tmp_path / "other").mkdir()
    async with gateway(tmp_path / "other", store_url, laravel.url, text=text(named(1), renamed)) as gate:
        assert await told(gate, "new") == ["s0", "s1", "s3"]


async def test_with_shared_profiles_the_least_loaded_worker_begins_with_a_new_session(
    tmp_path: Path, store_url: str, laravel: Receiver, registry: Registry
) -> None:
    laravel.response = answering(FOUR)
    await lists(registry, 1, "a", "b", "c")
    await lists(registry, 2)
    async with gateway(
        tmp_path, store_url, laravel.url, text=text(named(1), named(2), more="  shared_profiles: true\n")
    ) as gate:
        assert await told(gate, "w2") == ["s0", "s1", "s2"]
        assert await told(gate, "w1") == ["s3"]


async def test_accounts_of_other_providers_are_for_nobody(divided: Gate, laravel: Receiver, heard: Heard) -> None:
    laravel.response = answering(listing(account("meta", 0, provider_type="meta"), account("s0", 0)))
    assert await told(divided, "w1") == ["s0"]
    assert await told(divided, "w2") == []
    (fields, *_) = [fields for message, fields in heard.lines if message == "accounts.divided"]
    assert fields == {"worker": "w1", "given": 1, "of": 1, "left_out": 1}


async def test_workers_that_ask_two_gateways_at_one_moment_get_each_account_once(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    laravel.response = answering(listing(*(account(f"s{i}", i // 3) for i in range(50))))
    policies = text(*map(named, range(1, 9)))
    (tmp_path / "other").mkdir()
    async with (
        gateway(tmp_path, store_url, laravel.url, text=policies) as one,
        gateway(tmp_path / "other", store_url, laravel.url, text=policies) as other,
    ):
        asking = [told(gate, f"w{number}") for number in range(1, 9) for gate in (one, other)]
        answers = await asyncio.gather(*asking)
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        assert first == second
    counted = Counter(session for answer in answers[::2] for session in answer)
    assert counted == Counter(f"s{i}" for i in range(50))
    assert len(laravel.heads) == 16


# --- what passes as it is


async def test_who_asks_without_a_prefix_gets_all_of_it(divided: Gate, heard: Heard) -> None:
    answer = await divided.http.get(PATH)
    assert answer.content == FOUR
    assert [fields for message, fields in heard.lines if message == "accounts.undivided"] == [{"client": "127.0.0.1"}]


async def test_switched_off_the_answer_passes_as_it_is(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    laravel.response = answering(FOUR)
    policies = text(named(1), named(2), more="  shields: {{divide: false}}\n")
    async with gateway(tmp_path, store_url, laravel.url, text=policies) as gate:
        assert (await gate.http.get(f"/w/w1{PATH}")).content == FOUR


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (answering(b'{"message":"Unauthenticated."}', b"X-Odd: a", status=b"401 Unauthorized"), 401),
        (answering(FOUR, status=b"500 Internal Server Error"), 500),
        (answering(b"<h1>", status=b"404 Not Found"), 404),
        (answering(b'{"success":false,"message":"no"}'), 200),
        (answering(b'{"sessions":{"3":{"session_id":"s1"}},"count":1}'), 200),
    ],
)
async def test_what_starts_nothing_passes_as_it_is(
    divided: Gate, laravel: Receiver, heard: Heard, store: Store, response: bytes, status: int
) -> None:
    laravel.response = response
    answer = await divided.http.get(f"/w/w1{PATH}")
    head, _, body = response.partition(b"\r\n\r\n")
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers.get("x-odd") == ("a" if b"X-Odd" in head else None)
    assert "accounts.passed_on" in heard.messages()
    assert await moments(store) == {}


async def test_the_question_reaches_laravel_without_the_prefix_and_asks_for_plain_text(
    divided: Gate, laravel: Receiver
) -> None:
    await divided.http.get(
        f"/w/w1{PATH}?x=1", headers={"X-API-Key": "k", "If-None-Match": '"e"', "Accept-Encoding": "br"}
    )
    head = lines(laravel.heads[0])
    assert head[0] == b"GET %b?x=1 HTTP/1.1" % PATH.encode()
    sent = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in head[1:]}
    assert sent[b"x-api-key"] == b"k"
    assert sent[b"accept-encoding"] == b"identity"
    assert b"if-none-match" not in sent


async def test_headers_about_the_whole_list_do_not_go_with_a_part(divided: Gate, laravel: Receiver) -> None:
    laravel.response = answering(FOUR, b'ETag: "whole"', b"X-Kept: 1", b"Set-Cookie: a", b"Set-Cookie: b")
    answer = await divided.http.get(f"/w/w1{PATH}")
    assert "etag" not in answer.headers
    assert answer.headers["x-kept"] == "1"
    assert answer.headers.get_list("set-cookie") == ["a", "b"]


@pytest.mark.parametrize("path", [f"/{PATH}", f"{PATH}/", "/api/whatsapp/./accounts/%61ctive"])
async def test_however_the_path_is_written_it_is_divided(divided: Gate, laravel: Receiver, path: str) -> None:
    async with divided.raw(
        b"GET /w/w1%b HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n" % path.encode()
    ) as client:
        head = await client.head()
        body = await client.rest()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert [item["session_id"] for item in orjson.loads(body)["sessions"]] == ["s0", "s2"]


# --- what cannot be divided


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (
            b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://laravel/x\r\nContent-Length: 0\r\n\r\n",
            "Laravel redirects (301): let upstreams name the address that it leads to",
        ),
        (
            answering(gzip.compress(FOUR), b"Content-Encoding: gzip"),
            "Laravel's list of accounts is compressed, though plain text was asked for",
        ),
        (
            answering(b"<!DOCTYPE html>"),
            "Laravel's list of accounts cannot be divided: it is not JSON (Expecting value: line 1 column 1 (char 0))",
        ),
        (
            answering(b" " * (accounts.MAX_ANSWER + 1)),
            "Laravel's list of accounts has over 8 MiB, too much to divide it",
        ),
    ],
)
async def test_what_a_worker_may_understand_and_we_do_not_is_refused(
    divided: Gate, laravel: Receiver, heard: Heard, response: bytes, why: str
) -> None:
    laravel.response = response
    assert problem(await divided.http.get(f"/w/w1{PATH}")) == (502, why)
    assert [fields["why"] for message, fields in heard.lines if message == "accounts.refused"] == [why]


# --- what is away


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "HELD_FOR", 1.5)


async def test_while_laravel_is_away_the_answer_is_held_until_it_is_back(divided: Gate, laravel: Receiver) -> None:
    laravel.response = answering(b"", status=b"503 Service Unavailable")
    asking = asyncio.create_task(told(divided, "w1"))
    await until(lambda: len(laravel.heads) > 1)
    laravel.response = answering(FOUR)
    assert await asking == ["s0", "s2"]


@pytest.mark.usefixtures("patience")
async def test_laravel_that_stays_away_is_told_as_it_is(divided: Gate, laravel: Receiver) -> None:
    laravel.response = answering(b"{}", status=b"503 Service Unavailable")
    answer = await divided.http.get(f"/w/w1{PATH}")
    assert (answer.status_code, answer.content) == (503, b"{}")


@pytest.mark.usefixtures("patience")
async def test_laravel_that_does_not_listen_is_502_after_the_hold(tmp_path: Path, store_url: str) -> None:
    async with gateway(tmp_path, store_url, "http://127.0.0.1:1", text=TWO) as gate:
        assert problem(await gate.http.get(f"/w/w1{PATH}"))[0] in (502, 503)


@pytest.mark.usefixtures("patience")
async def test_laravel_that_is_silent_is_504(divided: Gate, laravel: Receiver) -> None:
    laravel.response = b""
    assert problem(await divided.http.get(f"/w/w1{PATH}")) == (504, "Laravel did not answer within 1.5s")


async def test_while_the_store_is_away_the_answer_is_held_until_it_is_back(
    short_folder: Path, free_port: Callable[[], int], laravel: Receiver
) -> None:
    server = Server(short_folder, free_port(), "--appendonly", "yes")
    server.start()
    laravel.response = answering(FOUR)
    try:
        async with gateway(short_folder, server.url, laravel.url, text=TWO) as gate:
            assert await told(gate, "w1") == ["s0", "s2"]
            server.kill()
            asking = asyncio.create_task(told(gate, "w2"))
            await until(lambda: len(laravel.heads) > 1)
            await asyncio.sleep(0.3)
            server.start()
            assert await asking == ["s1", "s3"]
    finally:
        server.kill()


@pytest.mark.usefixtures("patience")
async def test_a_store_that_stays_away_is_503_and_no_session_is_started_twice(
    short_folder: Path, free_port: Callable[[], int], laravel: Receiver
) -> None:
    server = Server(short_folder, free_port())
    server.start()
    laravel.response = answering(FOUR)
    try:
        async with gateway(short_folder, server.url, laravel.url, text=TWO) as gate:
            server.kill()
            answer = await gate.http.get(f"/w/w1{PATH}")
    finally:
        server.kill()
    why = "nobody can say which sessions are this worker's: the registry of sessions cannot be read"
    assert problem(answer) == (503, why)


@pytest.mark.usefixtures("patience")
async def test_before_all_workers_were_looked_at_a_new_session_is_given_to_nobody(
    tmp_path: Path, store_url: str, laravel: Receiver, registry: Registry
) -> None:
    """It may run at the one that has not answered yet. What is known is known."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slow = f"{{{{name: slow, url: '{url}', prefix: /w/slow}}}}"
        laravel.response = answering(FOUR)
        async with gateway(tmp_path, store_url, laravel.url, text=text(named(1), slow)) as gate:
            answer = await gate.http.get(f"/w/w1{PATH}")
            why = "nobody can say which sessions are this worker's: worker slow has not been asked yet what it runs"
            assert problem(answer) == (503, why)
            await lists(registry, 1, "s0")
            laravel.response = answering(listing(account("s0", 0)))
            assert await told(gate, "w1") == ["s0"]


# --- who asked


async def test_it_is_remembered_who_was_told(divided: Gate, store: Store) -> None:
    await told(divided, "w1")
    assert list(await moments(store)) == ["w1"]
