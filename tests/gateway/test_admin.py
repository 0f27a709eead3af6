"""`/_sluice/`: at which listener it answers, whom, and what becomes of wrong tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway import gauges, process
from gateway.policies import Policies, load
from sluice.console import http as api
from sluice.http.call_signatures import sign_call
from sluice.http.server.binding import Bound, bind
from sluice.http.signatures import sign
from sluice.process.loops import Stop
from tests.counted import counted
from tests.gateway.running import SECRET, SIGNATURE, Receiver, problem
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio

TOKEN = "the-token-of-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
WRONG = {"Authorization": "Bearer guessed"}
POLICIES = """
version: 1
listen: {{public: "127.0.0.1:0", other: "127.0.0.1:0"}}
store: {{url: "{store}", promise: memory}}
upstreams: {{laravel: {{url: "{laravel}"}}}}
signatures: {{workers: {{preset: blazz, secret: env:SECRET}}}}
routes: [{{path: /**, upstream: laravel}}]
relay: {{verify: workers, endpoints: {{laravel: {{url: "{laravel}", sign: workers}}}}}}
sessions: {{verify: workers}}
console: {{token: env:TOKEN}}
{more}
"""
ADMIN_ONLY = "console, API and metrics answer at the addresses of admin.listen only"
EVERYWHERE = ("/_sluice/healthz", "/_sluice/readyz")
OF_ADMIN = (
    "/_sluice",
    "/_sluice/",
    "/_sluice/assets/now/app/main.js",
    "/_sluice/api/status",
    "/_sluice/metrics",
    "/_sluice/nothing",
)


class Site:
    def __init__(self, policies: Policies, bound: list[Bound]) -> None:
        self.policies = policies
        self.bound = {one.listener.name: one for one in bound}
        self.stop = Stop()

    def client(self, name: str = "public", address: str = "127.0.0.1") -> httpx2.AsyncClient:
        port = self.bound[name].socket.getsockname()[1]
        transport = httpx2.AsyncHTTPTransport(local_address=address)
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", transport=transport, trust_env=False, timeout=15)

    async def get(self, path: str, name: str = "public", address: str = "127.0.0.1", **headers: str) -> httpx2.Response:
        async with self.client(name, address) as client:
            return await client.get(path, headers=headers)


Made = Callable[..., Any]


@pytest.fixture
async def site(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Made]:
    running: list[tuple[Stop, asyncio.Task[None]]] = []

    async def make(more: str = "") -> Site:
        file = tmp_path / "policies.yaml"
        file.write_text(POLICIES.format(store=store_url, laravel=laravel.url, more=more))
        policies = load(file, environment={"TOKEN": TOKEN, "SECRET": SECRET})
        bound = bind(policies.listeners)
        made = Site(policies, bound)
        running.append((made.stop, asyncio.create_task(process.run(policies, bound, made.stop, api.routes))))
        return made

    yield make
    for stop, task in running:
        stop.request()
        await task


def named(policies: Policies) -> str:
    """The address of `admin.listen`, by which it is called."""
    return policies.admin.listen[0].name


async def test_without_an_address_of_its_own_it_answers_wherever_the_gateway_listens(site: Made) -> None:
    gate = await site()
    for name in ("public", "other"):
        assert (await gate.get("/_sluice/metrics", name)).status_code == 200
        assert (await gate.get("/_sluice/api/status", name, **BEARER)).status_code == 200


async def test_with_an_address_of_its_own_console_api_and_metrics_answer_there_only(site: Made) -> None:
    gate = await site('admin: {listen: "127.0.0.1:0"}')
    admin = named(gate.policies)
    for path in OF_ADMIN:
        assert problem(await gate.get(path, **BEARER)) == (404, ADMIN_ONLY), path
    assert (await gate.get("/_sluice/", admin)).status_code == 200
    assert (await gate.get("/_sluice/metrics", admin)).status_code == 200
    assert (await gate.get("/_sluice/api/status", admin, **BEARER)).json()["listeners"][-1]["admin"] is True
    for path in EVERYWHERE:
        assert (await gate.get(path)).status_code in (200, 503)
        assert (await gate.get(path, admin)).status_code in (200, 503)


@pytest.mark.parametrize(
    "path", ["/_%73luice/api/status", "/%5Fsluice/metrics", "/_sluice/%61pi/status", "/_sluice/x/../metrics"]
)
async def test_no_spelling_of_a_path_gets_around_it(site: Made, path: str) -> None:
    gate = await site('admin: {listen: "127.0.0.1:0"}')
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.bound["public"].socket.getsockname()[1])
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
    )
    async with asyncio.timeout(60):
        assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
    writer.close()


async def test_no_route_answers_at_the_address_of_admin(site: Made, laravel: Receiver) -> None:
    gate = await site('admin: {listen: {console: "127.0.0.1:0"}}')
    assert problem(await gate.get("/", "console")) == (404, "no route of policies.yaml matches")
    assert problem(await gate.get("/_sluiceX", "console")) == (404, "no route of policies.yaml matches")
    assert laravel.heads == []


async def test_workers_and_publishers_go_on_asking_where_they_did(site: Made) -> None:
    gate = await site('admin: {listen: "127.0.0.1:0", allow: [192.0.2.1], hosts: [admin.test]}')
    worker = orjson.dumps({"id": "w1", "instance": "1", "url": "http://127.0.0.1:3101", "capacity": 1})
    event = orjson.dumps({"type": "order_paid", "session": "s1"})
    signed = {
        "/_sluice/workers": (worker, sign_call(SIGNATURE, "POST", "/_sluice/workers", worker, time.time()), 200),
        "/_sluice/events": (event, sign(SIGNATURE, event, time.time()), 202),
    }
    for path, (body, proof, status) in signed.items():
        headers = {name.decode(): value.decode() for name, value in proof}
        async with gate.client() as client:
            answer = await client.post(path, content=body, headers=headers)
            assert (answer.status_code, path) == (status, path), answer.text
    assert (await gate.get("/_sluice/workers/openapi.json")).status_code == 200


# --- whom


async def test_a_denied_address_is_denied_here_too(site: Made) -> None:
    gate = await site("trust: {deny: [127.0.0.2]}")
    for path in (*EVERYWHERE, *OF_ADMIN, "/_sluice/events", "/_sluice/workers"):
        answer = await gate.get(path, address="127.0.0.2", **BEARER)
        assert problem(answer) == (403, "this address is denied (trust.deny)"), path


async def test_only_who_is_allowed_gets_an_answer(site: Made) -> None:
    gate = await site("trust: {lists: {office: [127.0.0.3]}}\nadmin: {allow: [office, 127.0.0.4]}")
    for path in OF_ADMIN:
        assert problem(await gate.get(path, **BEARER)) == (403, "this address is not one of admin.allow"), path
    for address in ("127.0.0.3", "127.0.0.4"):
        assert (await gate.get("/_sluice/api/status", address=address, **BEARER)).status_code == 200
    for path in EVERYWHERE:
        assert (await gate.get(path)).status_code in (200, 503)


async def test_whom_a_trusted_proxy_names_is_who_asks(site: Made) -> None:
    gate = await site("trust: {proxies: [127.0.0.1], deny: [192.0.2.66]}\nadmin: {allow: [192.0.2.7]}")
    asked = {
        address: await gate.get("/_sluice/metrics", **{"X-Forwarded-For": address})
        for address in ("192.0.2.7", "192.0.2.8", "192.0.2.66")
    }
    assert [answer.status_code for answer in asked.values()] == [200, 403, 403]
    assert (
        await gate.get("/_sluice/metrics", address="127.0.0.5", **{"X-Forwarded-For": "192.0.2.7"})
    ).status_code == 403


@pytest.mark.parametrize(
    ("more", "key", "good"),
    [
        ("trust: {hosts: [app.test]}", "trust.hosts", "app.test"),
        ("trust: {hosts: [app.test]}\nadmin: {hosts: [admin.test]}", "admin.hosts", "admin.test"),
    ],
)
async def test_hosts_are_checked(site: Made, more: str, key: str, good: str) -> None:
    gate = await site(more)
    detail = f"this host is not served here; {key} in policies.yaml lists those that are"
    for path in OF_ADMIN:
        assert problem(await gate.get(path, Host="rebound.example", **BEARER)) == (400, detail), path
        assert (await gate.get(path, Host=f"{good}:80", **BEARER)).status_code in (200, 307, 404)
    assert problem(await gate.get("/_sluice/events", Host="rebound.example"))[0] == 400
    port = gate.bound["public"].socket.getsockname()[1]
    for host in (f"127.0.0.1:{port}", "localhost"):
        assert (await gate.get("/_sluice/api/status", Host=host, **BEARER)).status_code == 200, "as commands name it"
    assert (await gate.get("/_sluice/api/status", Host="10.0.0.1", **BEARER)).status_code == 400
    for path in EVERYWHERE:
        assert (await gate.get(path, Host="10.0.0.1")).status_code in (200, 503), "as probes name it"


# --- tokens


def refused(reason: str) -> float:
    page = counted()
    start = f'sluice_reserved_refused_total{{reason="{reason}"}} '
    return sum(float(line.removeprefix(start)) for line in page.splitlines() if line.startswith(start))


async def test_wrong_tokens_are_counted_logged_and_limited_for_each_address(site: Made, heard: Heard) -> None:
    gate = await site("admin: {refused: 3/hour}")
    wrong, limited = refused("token"), refused("limited")
    async with gate.client() as client, gate.client(address="127.0.0.2") as other:
        got = [await client.get("/_sluice/api/status", headers=WRONG) for _ in range(5)]
        assert [answer.status_code for answer in got] == [401, 401, 401, 429, 429]
        assert 1100 < int(got[-1].headers["retry-after"]) <= 1200
        assert (
            problem_of(got[-1])
            == "too many wrong tokens came from 127.0.0.1 (admin.refused); wait, then send the right one"
        )
        assert (await client.get("/_sluice/api/status", headers=BEARER)).status_code == 429, "else guessing would go on"
        assert (await client.get("/_sluice/healthz")).status_code == 200
        assert (await other.get("/_sluice/api/status", headers=BEARER)).status_code == 200
        assert (await client.get("/_sluice/api/status")).status_code == 401, "nothing was guessed"
    assert (refused("token") - wrong, refused("limited") - limited) == (3, 3)
    assert [fields["client"] for message, fields in heard.lines if message == "token.refused"] == ["127.0.0.1"] * 3
    lines = [fields for message, fields in heard.lines if message == "request" and fields["status"] in (401, 429)]
    assert {(one["path"], one["route"], one["client"]) for one in lines} == {
        ("/_sluice/api/status", "/_sluice/**", "127.0.0.1")
    }
    assert len(lines) == 7


def problem_of(answer: httpx2.Response) -> str:
    detail: str = answer.json()["detail"]
    return detail


async def test_status_tells_of_wrong_tokens(site: Made) -> None:
    gate = await site()
    await gate.get("/_sluice/api/status", **WRONG)

    async def is_told() -> bool:
        status = (await gate.get("/_sluice/api/status", **BEARER)).json()
        return any("sent to /_sluice/ in the last minute: somebody guesses" in one for one in status["messages"])

    await until(is_told, what="the sentence about wrong tokens")


async def test_metrics_are_open_or_require_the_token(site: Made) -> None:
    gate = await site("admin: {metrics: token, refused: 2/hour}")
    answer = await gate.get("/_sluice/metrics")
    assert problem(answer) == (401, "send Authorization: Bearer <console.token>")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (await gate.get("/_sluice/metrics", **BEARER)).text.startswith("# HELP")
    statuses = [(await gate.get("/_sluice/metrics", **WRONG)).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]


async def test_an_edit_of_the_section_counts_at_once(site: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("SECRET", SECRET)
    gate = await site()
    assert (await gate.get("/_sluice/metrics")).status_code == 200
    file = gate.policies.source
    file.write_text(file.read_text() + "admin: {allow: [192.0.2.1]}\n")

    async def is_refused() -> bool:
        return (await gate.get("/_sluice/metrics")).status_code == 403

    await until(is_refused, what="the edit to count")


# --- what it costs


async def test_one_page_of_metrics_serves_all_who_ask_within_a_second(
    site: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    page = gauges.page

    def counting(*given: Any) -> bytes:
        nonlocal made
        made += 1
        return page(*given)

    monkeypatch.setattr(gauges, "page", counting)
    gate = await site()
    began = time.monotonic()
    async with gate.client() as client:
        pages = [answer.text for answer in await asyncio.gather(*(client.get("/_sluice/metrics") for _ in range(50)))]
    assert all(page.startswith("# HELP") for page in pages)
    assert made <= 1 + (time.monotonic() - began)


# --- the access log


async def test_the_access_log_has_every_request_but_what_programs_ask_all_the_time(site: Made, heard: Heard) -> None:
    gate = await site()
    for path in ("/_sluice/healthz", "/_sluice/readyz", "/_sluice/metrics", "/_sluice/workers/openapi.json"):
        await gate.get(path)
    for path in ("/_sluice/", "/_sluice/api/status", "/_sluice/nothing?token=secret"):
        await gate.get(path, "other")
    lines = [fields for message, fields in heard.lines if message == "request"]
    assert [(one["path"], one["status"], one["on"], one["why"]) for one in lines] == [
        ("/_sluice/", 200, "other", None),
        ("/_sluice/api/status", 401, "other", "send Authorization: Bearer <console.token>"),
        ("/_sluice/nothing", 404, "other", "there is nothing at this path of /_sluice/"),
    ]


async def test_the_access_log_says_why_a_call_of_a_worker_was_refused(site: Made, heard: Heard) -> None:
    gate = await site()
    async with gate.client() as client:
        assert (await client.post("/_sluice/workers", content=b"{}")).status_code == 401
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert (line["path"], line["status"], line["client"]) == ("/_sluice/workers", 401, "127.0.0.1")
    assert "X-" in line["why"]
