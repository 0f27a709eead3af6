"""What a person asks of a session's worker: real ones, an existing service and one of ours, and each mistake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import orjson
import pytest

from gateway.resources import Resources
from sessions.existing import ExistingWorkers
from sessions.policies import ExistingWorker
from sessions.registry import Registry, Worker
from sluice.config.model import Secret
from sluice.console import audit
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.actions.session_closing import (
    DeletedSession,
    DeleteSession,
    LoggedOutSession,
    LogOutSession,
    delete,
    log_out,
)
from sluice.console.actions.session_creating import CreatedSession, CreateSession, create
from sluice.console.actions.session_pairing import PairingCode, PairSession, QrCode, ShowQr, pair, show_qr
from sluice.console.audit import Actor, Readers, path_of, perform
from sluice.console.operations import SHOW_QR
from tests.sessions.making import owner
from tests.sluice.console.contract_worker import ContractWorker, picture, serving
from tests.sluice.console.deployment import VAULT_KEY, parts_on, policies_in
from tests.sluice.console.test_http import BEARER, served

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node() -> AsyncIterator[ContractWorker]:
    async with serving(ContractWorker(key="node-key")) as node:
        yield node


@pytest.fixture
async def ours(parts: Resources) -> AsyncIterator[ContractWorker]:
    """Registered as w1."""
    async with serving(ContractWorker(ours=True)) as ours:
        await parts.registry.register(Worker("w1", "1", ours.url, 5))
        yield ours


@pytest.fixture
def parts(parts: Resources) -> Resources:
    """With a lease that lasts as long as a test."""
    return replace(parts, registry=Registry(parts.store, 60.0))


async def watched(parts: Resources, node: ContractWorker) -> Resources:
    """The policies name it as n1, and it was looked at."""
    known = ExistingWorker(node.url, Secret(b"node-key"), name="n1")
    watch = ExistingWorkers(parts.registry, [known], 5)
    await watch.run_once()
    await watch.close()
    sessions = replace(parts.policies.sessions, workers=(known,))
    return replace(parts, policies=replace(parts.policies, sessions=sessions))


def conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)


# --- create


async def test_one_is_created_at_an_existing_worker_as_laravel_does_it(parts: Resources, node: ContractWorker) -> None:
    parts = await watched(parts, node)
    planned = await create(parts, CreateSession("s1", "7", "9", dry_run=True))
    assert (planned, node.asked) == (CreatedSession(False, False, None, False, None), [])
    done = await create(parts, CreateSession("s1", "7", "9"))
    assert done == CreatedSession(True, False, "n1", True, "qr_scanning")
    body = {"session_id": "s1", "workspace_id": 7, "account_id": 9}
    assert node.asked == [("POST", "/api/sessions", body, None)]
    row = await parts.registry.session("s1")
    assert row is not None
    assert (row.worker, row.workspace, row.about) == ("n1", "7", {"workspace_id": 7, "account_id": 9})


async def test_one_is_created_at_a_worker_of_ours_under_its_fence(parts: Resources, ours: ContractWorker) -> None:
    assert await create(parts, CreateSession("s1", "shop")) == CreatedSession(True, False, "w1", False, "qr_scanning")
    fence = (await owner(parts.registry, "s1")).fence
    assert ours.asked == [("POST", "/api/sessions", {"session_id": "s1", "workspace_id": "shop"}, str(fence))]
    again = await create(parts, CreateSession("s1", "shop", dry_run=True))
    assert again == conflict("w1 runs s1 already: sluice sessions restart s1 starts it anew")


async def test_one_that_was_ended_is_created_again(parts: Resources, ours: ContractWorker) -> None:
    await parts.registry.want({"s1": {}})
    await parts.registry.end("s1", "deleted")
    done = await create(parts, CreateSession("s1", "7"))
    assert isinstance(done, CreatedSession)
    assert (done.known, done.worker) == (True, "w1")
    row = await parts.registry.session("s1")
    assert row is not None
    assert row.ended == ""


async def test_what_a_worker_refuses_is_told_and_its_place_given_back(parts: Resources, ours: ContractWorker) -> None:
    ours.refuses = (500, {"error": "no browser \x1b[2J" + "x" * 500})
    told = await create(parts, CreateSession("s1", "7"))
    assert isinstance(told, Problem)
    assert told.message.startswith("s1 is not created: it answered 500 no browser \x1b[2Jxx")
    assert told.message.endswith("x; sluice sessions show s1 says how it stands")
    assert len(told.message) < 350
    assert await parts.registry.session("s1") is None


async def test_without_a_worker_that_takes_it_nothing_is_created(parts: Resources) -> None:
    no_worker = conflict("no worker of yours is live: start one (docs/workers.md)")
    assert await create(parts, CreateSession("s1", "7")) == no_worker
    await parts.registry.register(Worker("w1", "1", "http://127.0.0.1:1", 1))
    told = await create(parts, CreateSession("s1", "7"))
    assert isinstance(told, Problem)
    assert told.message.startswith("s1 is not created: ")
    assert await parts.registry.session("s1") is None
    await parts.registry.reserve("other", {})
    full = "all workers of yours are full: start one more (docs/workers.md), or raise the capacity of one"
    assert await create(parts, CreateSession("s1", "7", dry_run=True)) == conflict(full)


# --- its phone


async def test_the_code_of_an_existing_worker_is_shown_until_it_was_scanned(
    parts: Resources, node: ContractWorker
) -> None:
    parts = await watched(parts, node)
    await create(parts, CreateSession("s1", "7"))
    for number in (1, 2):
        shown = await show_qr(parts, ShowQr("s1"))
        assert shown == QrCode("s1", "n1", "qr_scanning", picture(number), None)
    node.scan("s1", "49170")
    assert await show_qr(parts, ShowQr("s1")) == QrCode(
        "s1", "n1", "connected", None, "it is connected, and needs none"
    )


async def test_the_code_of_a_worker_of_ours_is_shown(parts: Resources, ours: ContractWorker) -> None:
    await create(parts, CreateSession("s1", "7"))
    assert await show_qr(parts, ShowQr("s1")) == QrCode("s1", "w1", "qr_scanning", picture(1), None)


async def test_where_there_is_no_code_it_says_why(parts: Resources, ours: ContractWorker) -> None:
    unknown = 'there is no session "s9"; `sluice sessions list` shows them'
    assert await show_qr(parts, ShowQr("s9")) == Problem(ProblemKind.NOT_FOUND, unknown)
    await parts.registry.want({"s2": {}})
    told = await show_qr(parts, ShowQr("s2"))
    assert isinstance(told, QrCode)
    assert told.why == "nobody runs it: create it (sluice sessions create s2), or see why (sluice sessions show)"
    await create(parts, CreateSession("s1", "7"))
    ours.sessions["s1"].status = "failed"
    told = await show_qr(parts, ShowQr("s1"))
    assert isinstance(told, QrCode)
    assert told.why == "it is failed, and shows none: sluice sessions restart s1 starts it anew"
    del ours.sessions["s1"]
    told = await show_qr(parts, ShowQr("s1"))
    assert isinstance(told, QrCode)
    assert told.why == "w1 does not show it: it answered 404 Session not found"


@pytest.mark.parametrize("code", ["javascript:alert(1)", "data:image/svg+xml;base64,AAAA", "data:text/html,x", 7, None])
async def test_only_a_small_picture_is_passed_on(
    parts: Resources, ours: ContractWorker, code: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.sluice.console.contract_worker._next_code", lambda one: code)
    await create(parts, CreateSession("s1", "7"))
    why = "it shows no code yet: its page is being opened"
    assert await show_qr(parts, ShowQr("s1")) == QrCode("s1", "w1", "qr_scanning", None, why)


async def test_a_phone_is_paired_by_a_code_that_is_typed(parts: Resources, ours: ContractWorker) -> None:
    await create(parts, CreateSession("s1", "7"))
    assert await pair(parts, PairSession("s1", "+4917012345")) == PairingCode("s1", "w1", "ABCD-1234")
    assert ours.asked[-1][:3] == ("POST", "/api/sessions/s1/pairing-code", {"phone_number": "+4917012345"})
    ours.refuses = (421, {"error": "not the owner"})
    lost = 'w1 gives no pairing code for "s1": it has just lost it to another worker; try again'
    assert await pair(parts, PairSession("s1", "4917012345")) == conflict(lost)


async def test_an_existing_worker_that_cannot_pair_or_log_out_is_told_of(
    parts: Resources, node: ContractWorker
) -> None:
    parts = await watched(parts, node)
    await create(parts, CreateSession("s1", "7"))
    assert await pair(parts, PairSession("s1", "4917012345")) == conflict(
        "n1 gives no pairing code (it answered 404 Endpoint not found): scan its QR code (sluice sessions qr s1)"
    )
    assert await log_out(parts, LogOutSession("s1", confirm=True)) == conflict(
        'n1 cannot log out (it answered 404 Endpoint not found): end "s1" on its phone, under Linked devices, or close '
        "it with sluice sessions delete, which leaves its login"
    )


# --- closed


async def test_a_session_is_logged_out_after_a_look(parts: Resources, ours: ContractWorker) -> None:
    await create(parts, CreateSession("s1", "7"))
    unsure = await log_out(parts, LogOutSession("s1"))
    assert unsure == Problem(ProblemKind.INVALID, "set confirm to true, or look first with dry_run set to true")
    assert await log_out(parts, LogOutSession("s1", dry_run=True)) == LoggedOutSession(False, "w1", False, None)
    assert "s1" in ours.sessions
    assert await log_out(parts, LogOutSession("s1", confirm=True)) == LoggedOutSession(True, "w1", False, None)
    assert "s1" not in ours.sessions


async def test_a_session_is_deleted_where_it_runs_and_forgotten(parts: Resources, node: ContractWorker) -> None:
    parts = await watched(parts, node)
    await create(parts, CreateSession("s1", "7"))
    assert await delete(parts, DeleteSession("s1", dry_run=True)) == DeletedSession(False, "n1", True)
    assert await delete(parts, DeleteSession("s1", confirm=True)) == DeletedSession(True, "n1", True)
    assert node.asked[-1] == ("DELETE", "/api/sessions/s1", {"workspace_id": 7}, None)
    assert await parts.registry.session("s1") is None


async def test_what_its_worker_does_not_close_stays(parts: Resources, node: ContractWorker) -> None:
    parts = await watched(parts, node)
    await create(parts, CreateSession("s1", "7"))
    node.key = "another"
    assert await delete(parts, DeleteSession("s1", confirm=True)) == conflict(
        'n1 did not close "s1": it answered 401 Invalid API key; see whether it answers and takes its key '
        "(sluice status), or forget it without that worker (sluice sessions forget)"
    )
    assert await parts.registry.session("s1") is not None


async def test_one_that_nobody_runs_is_deleted_at_once(parts: Resources) -> None:
    await parts.registry.want({"s1": {}})
    assert await delete(parts, DeleteSession("s1", confirm=True)) == DeletedSession(True, None, False)
    assert await parts.registry.session("s1") is None


# --- who may


async def test_who_may_only_look_sees_no_code_and_changes_nothing(parts: Resources) -> None:
    policies = policies_in(parts.policies.source.parent, "console: {token: env:TOKEN, read: env:VAULT_KEY}\n")
    reader = {b"Authorization": b"Bearer " + VAULT_KEY.encode()}
    async with served(parts_on(parts.store, policies)) as http:
        seen = await http.get("/_sluice/api/qr/s1", headers=reader)
        assert (seen.status_code, seen.json()["detail"]) == (
            403,
            "console.read may not see this, as whoever sees it can act by it; log in with console.token",
        )
        assert (await http.get("/_sluice/api/qr/s1", headers=BEARER)).status_code == 404
        for path in ("created", "pairing", "logouts", "deleted", "restarts"):
            refused = await http.post(f"/_sluice/api/{path}/s1", json={}, headers=reader)
            assert (refused.status_code, refused.json()["detail"]) == (
                403,
                "console.read may look and change nothing; log in with console.token",
            )


async def test_who_was_shown_a_code_is_in_the_audit_log_once_however_often_a_page_asks(
    parts: Resources, ours: ContractWorker
) -> None:
    await create(parts, CreateSession("s1", "7"))
    log = path_of(parts.policies)
    async with served(parts) as http:
        for _ in range(3):
            shown = (await http.get("/_sluice/api/qr/s1", headers=BEARER)).json()["code"]
        (line,) = log.read_bytes().splitlines()
        found = orjson.loads(line)
        assert (found["who"], found["from"], found["action"]) == ("console.token", "127.0.0.1", "show_qr")
        assert (found["request"], found["result"]) == ({"session": "s1"}, {})
        assert shown.encode() not in line

        ours.scan("s1", "4917012345")
        assert (await http.get("/_sluice/api/qr/s2", headers=BEARER)).status_code == 404
    assert len(log.read_bytes().splitlines()) == 1


async def test_a_code_that_is_shown_to_another_or_later_is_written_down_once_more(
    parts: Resources, ours: ContractWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(parts, CreateSession("s1", "7"))
    log, readers = path_of(parts.policies), Readers()

    async def shown_to(who: str) -> int:
        actor = Actor(who, "desk", "command line")
        await perform(SHOW_QR, parts, ShowQr("s1"), actor, lambda why, _: pytest.fail(why), readers)
        return len(log.read_bytes().splitlines())

    assert [await shown_to("ada"), await shown_to("ada"), await shown_to("bob"), await shown_to("bob")] == [1, 1, 2, 2]
    monkeypatch.setattr(audit, "_AGAIN", 0.0)
    assert await shown_to("ada") == 3


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("created/a%20b", {"workspace": "7"}, 'session: "a b" is not 1 to 200 of A-Z a-z 0-9 _ -'),
        ("created/s1", {}, "workspace is missing"),
        ("pairing/s1", {"phone": "me"}, 'phone: "me" is not 5 to 20 digits, with the code of the country'),
    ],
)
async def test_what_is_wrong_in_a_request_is_told(
    parts: Resources, path: str, body: dict[str, str], message: str
) -> None:
    async with served(parts) as http:
        answer: httpx2.Response = await http.post(f"/_sluice/api/{path}", json=body, headers=BEARER)
    assert answer.status_code == 400
    assert message in answer.json()["detail"]
