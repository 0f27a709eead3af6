"""Requests for sessions of unmodified workers: through the gateway as directly, but where that does harm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from sessions.registry import Unknown, Unowned
from tests.gateway.running import Receiver, problem
from tests.gateway.workers.fleet import KEY, QUERY, Fleet, accounts, fleet
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio

Ports = Callable[[], int]
SEND = {"api_key": KEY, "session_id": "nobody", "recipient_phone": "4912345678", "message": "a"}


@pytest.fixture
async def one(tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports) -> AsyncIterator[Fleet]:
    """One worker behind one gateway."""
    laravel.response = accounts()
    async with fleet(tmp_path, store_url, laravel, free_port) as made:
        yield made


@pytest.fixture
async def two(tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports) -> AsyncIterator[Fleet]:
    """Two workers behind two gateways."""
    laravel.response = accounts()
    async with fleet(tmp_path, store_url, laravel, free_port, workers=2, gates=2) as made:
        yield made


def same(through: httpx2.Response, directly: httpx2.Response) -> None:
    assert (through.status_code, through.content) == (directly.status_code, directly.content)
    assert through.headers["content-type"] == directly.headers["content-type"]


# --- creates


async def test_a_session_is_where_its_create_was_accepted(one: Fleet) -> None:
    answer = await one.create("s1")
    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "session_id": "s1", "status": "qr_scanning"},
    )
    assert await one.owner("s1") is one.workers[0], "before the answer, not with the next list"


async def test_a_create_may_be_an_urlencoded_form(one: Fleet) -> None:
    form = {"session_id": "s1", "workspace_id": "1", "account_id": "7", "api_key": KEY}
    assert (await one.http.post("/api/sessions", data=form)).json()["session_id"] == "s1"
    assert await one.owner("s1") is one.workers[0]
    twice = await one.http.post("/api/sessions", data={"session_id": ["s2", "s3"], "api_key": KEY})
    assert problem(twice) == (400, "the session is not a string")


async def test_what_is_remembered_of_a_create_is_bounded(one: Fleet) -> None:
    about = {"workspace_id": "w" * 201, "account_id": {"a": [1] * 1000}, "priority": "high"}
    answer = await one.http.post("/api/sessions", json={"session_id": "s1", "api_key": KEY, **about})
    assert answer.status_code == 200
    row = await one.row("s1")
    assert row is not None
    assert row.about == {"priority": "high"}


async def test_a_create_that_the_worker_refuses_leaves_nothing_behind(one: Fleet) -> None:
    refused = await one.create("s1", key="guessed")
    assert (refused.status_code, refused.json()) == (401, {"error": "Invalid API key"})
    assert await one.row("s1") is None
    await one.workers[0].set(fails=1)
    assert (await one.create("s2")).status_code == 500
    assert await one.row("s2") is None
    (row,) = await one.registry.workers()
    assert (row.sessions, row.reserved) == (0, 0)


async def test_strangers_do_not_fill_the_fleet(one: Fleet) -> None:
    answers = await asyncio.gather(*(one.create(f"s{i}", key="guessed") for i in range(40)))
    assert {answer.status_code for answer in answers} == {401}
    assert (await one.registry.summary()).total == 0


async def test_a_create_of_a_session_that_runs_starts_no_second_browser(one: Fleet) -> None:
    await one.connected("s1", "491")
    answer = await one.create("s1")
    assert (answer.status_code, answer.json()) == (200, {"success": True, "session_id": "s1", "status": "connected"})
    assert one.browsers("s1") == 1


async def test_of_concurrent_creates_one_reaches_the_worker(two: Fleet) -> None:
    answers = await asyncio.gather(*(two.create("s1", gate=i % 2) for i in range(8)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert two.browsers("s1") == 1
    assert two.phones.ran_twice() == []


async def test_a_create_of_a_session_that_is_listed_and_does_not_run_closes_its_browser_first(one: Fleet) -> None:
    worker = await one.connected("s1", "491")
    await one.http.put("/api/sessions/s1/metadata", json={"api_key": KEY, "updates": {"status": "disconnected"}})
    assert await worker.status("s1") == "disconnected"
    assert (await one.create("s1")).json()["success"] is True
    assert len(one.phones.running("s1")) == 1
    assert one.phones.ran_twice() == []


async def test_a_create_whose_caller_hangs_up_is_still_known(one: Fleet) -> None:
    await one.workers[0].set(slow={"/api/sessions": 1.5})
    with pytest.raises(httpx2.ReadTimeout):
        await one.http.post("/api/sessions", json={"session_id": "s1", "workspace_id": 1, "api_key": KEY}, timeout=0.5)

    async def owned() -> bool:
        return not isinstance(await one.registry.owner_of("s1"), Unknown | Unowned)

    await until(owned, what="the create to be accepted, though nobody waits for it")
    await one.workers[0].set(slow={})
    assert (await one.create("s1")).json()["success"] is True
    assert one.browsers("s1") == 1


async def test_a_create_waits_for_a_place_that_is_only_held(
    tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports
) -> None:
    """The other create is refused in the end, and gives its place back."""
    laravel.response = accounts()
    async with fleet(tmp_path, store_url, laravel, free_port, sessions=", per_worker: 1") as one:
        await one.workers[0].set(fails=1, slow={"/api/sessions": 1.0})
        failing = asyncio.create_task(one.create("s1"))
        await until(lambda: holds_a_place(one))
        waiting = asyncio.create_task(one.create("s2"))
        assert (await failing).status_code == 500
        assert (await waiting).status_code == 200
        full = await one.create("s3")
        assert problem(full) == (503, "all 1 workers are full (sessions.per_worker)")


async def holds_a_place(one: Fleet) -> bool:
    (row,) = await one.registry.workers()
    return row.reserved == 1


async def test_a_create_waits_for_a_worker_that_is_restoring(
    tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports
) -> None:
    """It would start the session a second time when it comes to it."""
    laravel.response = accounts()
    async with fleet(tmp_path, store_url, laravel, free_port, scale=0.1) as one:
        for session in ("s1", "s2", "s3"):
            await one.connected(session, f"49{session[1:]}")
        laravel.response = accounts("s1", "s2", "s3")
        await one.workers[0].kill()
        await one.workers[0].start()
        answer = await one.create("s3")
        assert answer.json()["success"] is True
        assert await one.workers[0].status("s3") is not None
        assert one.browsers("s3") == 2, "one before, one after"
        assert one.phones.ran_twice() == []


# --- deletes, and sessions that do not run


async def test_a_delete_that_was_answered_is_final(one: Fleet) -> None:
    await one.connected("s1", "491")
    assert (await one.delete("s1")).json() == {"success": True, "message": "Session disconnected successfully"}
    assert await one.registry.owner_of("s1") == Unknown()
    for _ in range(10):  # lists that were asked for meanwhile
        await asyncio.sleep(0.2)
        assert await one.registry.owner_of("s1") == Unknown()
    again = await one.delete("s1")
    assert (again.status_code, again.json()["alreadyDisconnected"]) == (200, True)


async def test_a_delete_that_the_worker_refuses_changes_nothing(one: Fleet) -> None:
    await one.connected("s1", "491")
    refused = await one.http.request("DELETE", "/api/sessions/s1", json={"api_key": "guessed"})
    assert refused.status_code == 401
    assert await one.owner("s1") is one.workers[0]


async def test_a_session_that_nobody_knows_is_answered_as_directly(two: Fleet) -> None:
    direct = two.workers[0]
    for method, target, body in (
        ("GET", f"/api/sessions/nobody/status?api_key={KEY}", None),
        ("GET", "/api/sessions/nobody/status?api_key=guessed", None),
        ("GET", f"/api/sessions/nobody/status?api_key={KEY}&api_key={KEY}", None),
        ("DELETE", "/api/sessions/nobody", {"api_key": KEY}),
        (
            "POST",
            "/api/messages/send",
            SEND,
        ),
        ("POST", "/api/sessions/nobody/restore", {"api_key": KEY}),
        ("GET", f"/api/messages/true_49@c.us_A1/status?api_key={KEY}&message_id=A1", None),
        ("GET", "/api/internal/sessions/nobody/last-activity", None),
    ):
        through = await two.http.request(method, target, json=body)
        same(through, await direct.ask(method, target, json=body))


async def test_what_a_worker_has_no_path_for_is_its_404(one: Fleet) -> None:
    for method, path in (
        ("POST", "/sessions/s1/logout"),
        ("POST", "/api/messages/send-template"),
        ("GET", "/api/sessions/s1/qr"),
    ):
        answer = await one.http.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error"] == "Endpoint not found"


async def test_reconnect_and_delete_of_a_session_that_does_not_run_are_as_direct(two: Fleet) -> None:
    worker = await two.connected("s1", "491")
    await worker.ask("DELETE", "/api/sessions/s1", json={"api_key": KEY})  # past the gateway
    other = next(one for one in two.workers if one is not worker)

    async def missing() -> bool:
        row = await two.row("s1")
        return row is not None and row.missing_since is not None

    await until(missing)
    for verb in ("reconnect", "regenerate-qr"):
        answer = await two.http.post(f"/api/sessions/s1/{verb}", json={"api_key": KEY, "workspace_id": 1})
        assert answer.json()["status"] == "qr_scanning"
    assert (await two.delete("s1")).status_code == 200
    assert "s1" not in (await other.state())["sessions"]
    assert [asked for asked in (await other.state())["asked"] if "s1" in asked["path"]] == []
    assert two.phones.ran_twice() == []


# --- status


async def test_status_is_the_workers_own_while_it_answers(one: Fleet) -> None:
    await one.connected("s1", "491")
    same(await one.status("s1"), await one.workers[0].ask("GET", f"/api/sessions/s1/status?api_key={KEY}"))
    same(await one.status("s1", "guessed"), await one.workers[0].ask("GET", "/api/sessions/s1/status?api_key=guessed"))


async def test_status_of_a_worker_that_is_killed_is_what_was_last_known(one: Fleet) -> None:
    await one.connected("s1", "491")
    before = (await one.status("s1")).json()
    await one.workers[0].kill()
    for _ in range(8):  # longer than its lease
        answer = await one.status("s1")
        assert (answer.status_code, answer.json()) == (200, before)
        await asyncio.sleep(0.5)
    assert set(before) == {"session_id", "status", "phone_number", "workspace_id", "connected_at", "last_activity"}
    refused = await one.status("s1", "guessed")
    assert (refused.status_code, refused.json()) == (401, {"error": "Invalid API key"})
    twice = await one.http.get(f"/api/sessions/s1/status?api_key={KEY}&api_key={KEY}")
    assert twice.status_code == 401


async def test_status_while_a_worker_restores_one_by_one(
    tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports
) -> None:
    """Not begun: 404 of the worker; Laravel would mark the account disconnected."""
    laravel.response = accounts()
    async with fleet(tmp_path, store_url, laravel, free_port, scale=0.1) as one:
        sessions = ("s1", "s2", "s3")
        for session in sessions:
            await one.connected(session, f"49{session[1:]}")
        laravel.response = accounts(*sessions)
        await one.workers[0].kill()
        starting = asyncio.create_task(one.workers[0].start())
        directly, through = set[int](), set[tuple[int, str]]()
        until_ = time.monotonic() + 60
        while time.monotonic() < until_:
            for session in sessions:
                answer = await one.status(session)
                through.add((answer.status_code, answer.json()["status"]))
            if starting.done():
                direct = await one.workers[0].ask("GET", "/api/sessions/s3/status", params=QUERY)
                directly.add(direct.status_code)
                if direct.status_code == 200 and direct.json()["status"] == "connected":
                    break
            await asyncio.sleep(0.05)
        await starting
        assert directly == {404, 200}, "else this shows nothing"
        assert {status for status, _ in through} == {200}
        assert one.phones.ran_twice() == []


async def test_a_session_that_is_not_restored_in_time_is_the_workers_404(
    tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports
) -> None:
    laravel.response = accounts()
    async with fleet(tmp_path, store_url, laravel, free_port, sessions=", restore: 2s") as one:
        worker = await one.connected("s1", "491")
        await worker.ask("DELETE", "/api/sessions/s1", json={"api_key": KEY})
        assert (await one.status("s1")).status_code == 200

        async def gone() -> bool:
            return (await one.status("s1")).status_code == 404

        await until(gone)


async def test_status_is_not_refused_by_a_limit_of_ours(
    tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports
) -> None:
    laravel.response = accounts()
    limit = "limits: [{{id: few, per: [ip], rate: 1/hour, burst: 4}}]"
    async with fleet(tmp_path, store_url, laravel, free_port, limits=limit) as one:
        await one.connected("s1", "491")
        answers = [await one.status("s1") for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["status"] for answer in answers} == {"connected"}
        assert {(await one.http.get("/health")).status_code for _ in range(3)} == {200}
        refused = await one.http.get("/api/sessions/s1/metadata", params=QUERY)
        assert problem(refused)[0] == 429
        assert (await one.status("not-seen-yet")).status_code == 200, "Laravel has the key, and may have a row of it"
        assert problem(await one.status("made-up", "guessed"))[0] == 429


async def test_without_the_shield_status_is_held_as_all_others_are(
    tmp_path: Path, store_url: str, laravel: Receiver, free_port: Ports
) -> None:
    laravel.response = accounts()
    async with fleet(
        tmp_path, store_url, laravel, free_port, sessions=", shields: {{status: false}}", lease="1s"
    ) as one:
        await one.connected("s1", "491")
        await one.workers[0].kill()
        assert problem(await one.status("s1")) == (503, "no worker runs session s1 right now")


# --- the list


async def test_the_list_asks_for_the_key_and_shows_what_workers_do(two: Fleet) -> None:
    await two.connected("s1", "491")
    await two.create("s2", workspace=2)
    for query in ({}, {"api_key": "guessed"}):
        refused = await two.http.get("/api/sessions", params=query)
        assert (refused.status_code, refused.json()) == (401, {"error": "Invalid API key"})

    async def listed() -> bool:
        return len((await two.http.get("/api/sessions", params=QUERY)).json()["sessions"]) == 2

    await until(listed)
    answer = (await two.http.get("/api/sessions", params=QUERY)).json()
    assert (answer["success"], answer["total"]) == (True, 2)
    first = answer["sessions"][0]
    assert (first["session_id"], first["status"], first["phone_number"]) == ("s1", "connected", "491")
    assert first["connected_at"].endswith("Z")
    assert first["worker"] in {f"127.0.0.1:{worker.port}" for worker in two.workers}
    only = (await two.http.get("/api/sessions", params=QUERY | {"workspace_id": "2"})).json()["sessions"]
    assert [row["session_id"] for row in only] == ["s2"]


async def test_the_list_goes_page_by_page(one: Fleet) -> None:
    worker = f"127.0.0.1:{one.workers[0].port}"
    await one.registry.assign({f"s{i:04}": (worker, {"workspace_id": i % 3}) for i in range(2500)})
    found, after, pages = set[str](), "", 0
    while True:
        answer = (await one.http.get("/api/sessions", params=QUERY | {"after": after, "limit": "300"})).json()
        found |= {row["session_id"] for row in answer["sessions"]}
        after, pages = answer.get("after", ""), pages + 1
        if not after:
            break
    assert len(found) == 2500
    assert pages >= 8
    for name, wrong, detail in (
        ("limit", "0", "limit: must be 1 to 1000"),
        ("limit", "1e9", "limit: must be 1 to 1000"),
        ("after", "\n", "after: must be what the page before has under after"),
    ):
        assert problem(await one.http.get("/api/sessions", params=QUERY | {name: wrong})) == (400, detail)


# --- bytes


async def test_bodies_and_errors_pass_as_they_are(one: Fleet) -> None:
    await one.connected("s1", "491")
    big = "a" * (3 * 2**20)
    fields = {"api_key": KEY, "session_id": "s1", "recipient_phone": "4912345678", "message": big}
    sent = await one.http.post("/api/messages/send", json=fields, headers={"Expect": "100-continue"})
    assert sent.json()["success"] is True
    assert (await one.workers[0].state())["sent"][-1]["message"] == big
    page = await one.http.put("/api/sessions/s1/metadata", content=b"{", headers={"Content-Type": "application/json"})
    same(
        page,
        await one.workers[0].ask(
            "PUT", "/api/sessions/s1/metadata", content=b"{", headers={"Content-Type": "application/json"}
        ),
    )
    assert page.headers["content-type"].startswith("text/html")


async def test_no_key_is_in_a_log(one: Fleet, heard: Heard) -> None:
    secret = "quite-secret-key"
    for path in ("/api/sessions", "/api/sessions/s1/status", "/api/messages/s1/status", "/info", "/nothing"):
        await one.http.get(path, params={"api_key": secret})
    await one.create("s1", key=secret)
    await one.http.request("DELETE", "/api/sessions/s1", json={"api_key": secret})
    lines = [fields for message, fields in heard.lines if message == "request"]
    assert len(lines) >= 7
    assert secret not in str(heard.lines)
    assert KEY not in [value for fields in lines for value in fields.values()]
