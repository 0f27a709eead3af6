"""What a person's program does over the admin API: circuits held, dead letters found, replayed and dropped."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from gateway.reload import Resources
from relay.process import open_circuit
from relay.queue.queue import Settlement
from tests.relay.making import event
from tests.sluice.console.test_http import BEARER, http

__all__ = ["http"]
pytestmark = pytest.mark.anyio
API = "/_sluice/api"
FILTERS = "endpoint, event, limit, reason, session, since, text, until"


async def bury(parts: Resources, identity: str, **more: object) -> None:
    queue = parts.queues["laravel"]
    await queue.accept(event(id=identity, **more))
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(leased, "dead", "answered 422: no")], 0)


async def post(http: httpx2.AsyncClient, path: str, asked: object) -> tuple[int, dict[str, Any]]:
    answer = await http.post(API + path, json=asked, headers=BEARER)
    return answer.status_code, answer.json()


async def get(http: httpx2.AsyncClient, path: str) -> tuple[int, dict[str, Any]]:
    answer = await http.get(API + path, headers=BEARER)
    return answer.status_code, answer.json()


async def test_a_circuit_is_held_and_let_go(http: httpx2.AsyncClient, parts: Resources) -> None:
    code, told = await post(http, "/circuits/laravel", {"hold": "open", "why": "moving"})
    circuit = {"endpoint": "laravel", "state": "open", "retry_after": 0.0, "why": "moving", "held": True}
    assert (code, told) == (200, {"changed": True, "circuit": circuit})
    assert await get(http, "/circuits") == (200, {"circuits": [circuit]})
    _, status = await get(http, "/status")
    assert any("held open by a person (moving)" in sentence for sentence in status["messages"])
    code, told = await post(http, "/circuits/laravel", {"hold": None})
    assert (code, told["changed"], told["circuit"]["held"]) == (200, True, False)
    assert (await open_circuit(parts.store, parts.policies.relay.endpoints["laravel"]).admit(9)).state == "half-open"


async def test_dead_letters_are_found_shown_replayed_and_dropped(http: httpx2.AsyncClient, parts: Resources) -> None:
    await bury(parts, "evt_1", body=b'{"to":"49170"}')
    await bury(parts, "evt_2", body=b"\xff\x00", session="s2")
    code, told = await get(http, "/dead?text=49170&endpoint=laravel")
    assert (code, [one["id"] for one in told["letters"]], told["more"]) == (200, ["evt_1"], False)
    code, told = await get(http, "/dead?limit=1")
    assert (len(told["letters"]), told["more"]) == (1, True)
    code, told = await get(http, "/dead/laravel/evt_1")
    assert (code, told["body"], told["reason"], told["headers"]) == (
        *(200, '{"to":"49170"}', "answered 422: no"),
        [["X-A", "1"]],
    )
    assert (await get(http, "/dead/laravel/evt_2"))[1]["body_base64"] == "/wA="
    code, told = await post(http, "/dead/replay", {"session": "s2", "dry_run": True})
    assert (code, told["replayed"], told["left"]) == (200, 0, 1)
    code, told = await post(http, "/dead/replay", {"session": "s2"})
    assert (code, told["replayed"], told["left"]) == (200, 1, 0)
    code, told = await post(http, "/dead/drop", {"ids": ["evt_1"], "confirm": True})
    assert (code, told["dropped"], told["left"]) == (200, 1, 0)
    counts = await parts.queues["laravel"].counts()
    assert (counts.waiting, counts.dead) == (1, 0)


@pytest.mark.parametrize(
    ("path", "asked", "code", "detail"),
    [
        ("/circuits/larvel", {"hold": "open"}, 404, "there is no endpoint of this name; there are laravel"),
        ("/circuits/laravel", {"hold": "ajar"}, 400, 'hold: say "open", "closed", or null to let go'),
        ("/circuits/laravel", {}, 400, 'hold: say "open", "closed", or null to let go'),
        ("/circuits/laravel", {"hold": "open", "why": 7}, 400, "why: say it in at most 500 characters"),
        ("/circuits/laravel", {"held": "open"}, 400, "held is not known here; there are hold, why"),
        ("/circuits/laravel", [], 400, "send a JSON object"),
        (
            "/dead/drop",
            {"session": "s1"},
            *(400, 'confirm: dropping erases for good; say "confirm": true, or look first with "dry_run": true'),
        ),
        ("/dead/replay", {"endpoint": "larvel"}, 404, "there is no endpoint of this name; there are laravel"),
        ("/dead/replay", {"since": "yesterday"}, 400, "since: say unix seconds"),
        ("/dead/replay", {"session": 7}, 400, "session: say a text"),
        ("/dead/replay", {"ids": "evt_1"}, 400, "ids: say a list of ids"),
        ("/dead/replay", {"dry_run": 1}, 400, "dry_run: say true or false"),
        ("/dead/replay", {"why": "x" * 70_000}, 413, "at most 65536 bytes"),
    ],
)
async def test_what_is_asked_wrongly_is_said_with_its_cure(
    http: httpx2.AsyncClient, path: str, asked: object, code: int, detail: str
) -> None:
    answered, told = await post(http, path, asked)
    assert (answered, told["detail"]) == (code, detail)


@pytest.mark.parametrize(
    ("query", "code", "detail"),
    [
        ("?limit=none", 400, "limit: say a number"),
        ("?limit=0", 400, "limit: say 1 to 1000"),
        ("?since=now", 400, "since: say a number"),
        (
            "?status=422",
            400,
            "status is not known here; there are endpoint, event, limit, reason, session, since, text, until",
        ),
        ("/laravel/evt_9", 404, "there is no such dead letter"),
    ],
)
async def test_a_search_that_is_asked_wrongly(http: httpx2.AsyncClient, query: str, code: int, detail: str) -> None:
    answered, told = await get(http, f"/dead{query}")
    assert (answered, told["detail"]) == (code, detail)


@pytest.mark.parametrize("path", ["/circuits/laravel", "/dead/replay", "/dead/drop"])
async def test_without_the_token_nothing_is_done(http: httpx2.AsyncClient, parts: Resources, path: str) -> None:
    answer = await http.post(API + path, json={"hold": "open"})
    assert answer.status_code == 401
    assert not (await open_circuit(parts.store, parts.policies.relay.endpoints["laravel"]).view()).held
