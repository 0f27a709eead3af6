"""What a person's program does over the admin API: circuits held, dead letters found, replayed and dropped."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from gateway.resources import Resources
from relay.process import open_circuit
from relay.queue.queue import Settlement
from tests.relay.making import accept, event
from tests.sluice.console.test_http import BEARER, http

__all__ = ["http"]
pytestmark = pytest.mark.anyio
API = "/_sluice/api"


async def bury(parts: Resources, identity: str, **more: object) -> None:
    queue = parts.queues["laravel"]
    await accept(queue, event(id=identity, **more))
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(leased, "dead", "answered 422: no")], 0)


async def post(http: httpx2.AsyncClient, path: str, asked: object) -> tuple[int, dict[str, Any]]:
    answer = await http.post(API + path, json=asked, headers=BEARER)
    return answer.status_code, answer.json()


async def get(http: httpx2.AsyncClient, path: str) -> tuple[int, dict[str, Any]]:
    answer = await http.get(API + path, headers=BEARER)
    return answer.status_code, answer.json()


async def test_a_circuit_is_held_and_released(http: httpx2.AsyncClient, parts: Resources) -> None:
    code, answer = await post(http, "/circuits/laravel", {"hold": "open", "why": "moving"})
    circuit = {"endpoint": "laravel", "state": "open", "held": True, "retry_after": 0.0, "why": "moving"}
    assert (code, answer["changed"]) == (200, True)
    assert answer["circuit"].items() >= circuit.items()
    assert await get(http, "/circuits?endpoint=laravel") == (200, {"circuits": [answer["circuit"]]})
    _, status = await get(http, "/status")
    assert any("held open by a person (moving)" in sentence for sentence in status["messages"])
    code, answer = await post(http, "/circuits/laravel", {"hold": None})
    assert (code, answer["changed"], answer["circuit"]["held"]) == (200, True, False)
    assert (await open_circuit(parts.store, parts.policies.relay.endpoints["laravel"]).admit(9)).state == "half-open"


async def test_a_probe_says_when_nothing_waits_and_when_no_relay_takes_it(
    http: httpx2.AsyncClient, parts: Resources
) -> None:
    code, answer = await post(http, "/probes/laravel", {})
    assert (code, answer["outcome"], answer["event"]) == (200, "nothing_waits", None)
    await accept(parts.queues["laravel"], event(id="evt_1"))
    code, answer = await post(http, "/probes/laravel", {})
    assert (code, answer["outcome"], answer["event"]) == (200, "not_begun", "evt_1")


async def test_dead_letters_are_found_shown_replayed_and_dropped(http: httpx2.AsyncClient, parts: Resources) -> None:
    await bury(parts, "evt_1", body=b'{"to":"49170"}')
    await bury(parts, "evt_2", body=b"\xff\x00", session="s2")
    code, answer = await get(http, "/dead?text=49170&endpoint=laravel")
    assert (code, [one["id"] for one in answer["letters"]], answer["next"]) == (200, ["evt_1"], None)
    code, answer = await get(http, "/dead?limit=1")
    assert ([one["id"] for one in answer["letters"]], bool(answer["next"])) == (["evt_1"], True)
    code, answer = await get(http, "/dead/laravel/evt_1")
    assert (code, answer["body"], answer["body_base64"], answer["reason"], answer["headers"]) == (
        *(200, '{"to":"49170"}', None, "answered 422: no"),
        [["X-A", "1"]],
    )
    assert (await get(http, "/dead/-/evt_2"))[1]["body_base64"] == "/wA="
    code, answer = await post(http, "/dead/replay", {"session": "s2", "dry_run": True})
    kind = {"count": 1, "endpoint": "laravel", "event": "message_received", "reason": "answered 422: no"}
    assert (code, answer["replayed"], answer["left"], answer["kinds"]) == (200, 0, 1, [kind])
    code, answer = await post(http, "/dead/replay", {"session": "s2"})
    assert (code, answer["replayed"], answer["left"]) == (200, 1, 0)
    code, answer = await post(http, "/dead/drop", {"ids": ["evt_1"], "confirm": True})
    assert (code, answer["dropped"], answer["left"]) == (200, 1, 0)
    counts = await parts.queues["laravel"].counts()
    assert (counts.waiting, counts.dead) == (1, 0)


async def test_a_call_does_no_more_than_its_limit_and_the_next_one_goes_on(
    http: httpx2.AsyncClient, parts: Resources
) -> None:
    for number in range(5):
        await bury(parts, f"evt_{number}", session="s1")
    code, first = await post(http, "/dead/replay", {"all": True, "limit": 2})
    assert (code, first["replayed"], first["left"]) == (200, 2, 3)
    queue = parts.queues["laravel"]
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(leased, "dead", "answered 422: again")], 0)
    again = {"all": True, "until": first["until"], "limit": 1000}
    assert (await post(http, "/dead/replay", again))[1].items() >= {"replayed": 3, "left": 0}.items()
    assert [one["id"] for one in (await get(http, "/dead"))[1]["letters"]] == [leased.id]


async def test_moments_are_answered_in_utc_whatever_the_request_says(http: httpx2.AsyncClient) -> None:
    _, answer = await post(http, "/dead/replay", {"until": "2026-01-31T12:00:00+02:00"})
    assert answer["until"] == "2026-01-31T10:00:00Z"


async def test_an_id_may_hold_a_slash(http: httpx2.AsyncClient, parts: Resources) -> None:
    await bury(parts, "evt/1")
    assert (await get(http, "/dead/-/evt%2F1"))[1]["id"] == "evt/1"


UNSAID = "say which dead letters are meant: by ids, by endpoint, session, event, since, until, reason, text, or by all"


@pytest.mark.parametrize(
    ("path", "body", "code", "detail"),
    [
        ("/probes/larvel", {}, 404, 'there is no endpoint "larvel"; there are laravel'),
        ("/circuits/larvel", {"hold": "open"}, 404, 'there is no endpoint "larvel"; there are laravel'),
        ("/circuits/laravel", {"hold": "ajar"}, 400, 'hold: "ajar" is not "open" or "closed" or null'),
        ("/circuits/laravel", {}, 400, 'hold is missing; it has to be "open" or "closed" or null'),
        ("/circuits/laravel", {"hold": "open", "why": 7}, 400, "why: 7 is not a text of at most 500 characters"),
        (
            "/circuits/laravel",
            {"hold": "open", "why": "x" * 501},
            *(400, f'why: "{"x" * 80}…" is not a text of at most 500 characters'),
        ),
        ("/circuits/laravel", {"held": "open"}, 400, '"held" is not known here; there are endpoint, hold, why'),
        ("/circuits/laravel", {"hold": None, "endpoint": "x"}, 400, "endpoint stands in the path already"),
        ("/circuits/laravel", [], 400, "send a JSON object"),
        (
            "/dead/drop",
            {"session": "s1"},
            *(400, "dropping erases for good: set confirm to true, or look first with dry_run set to true"),
        ),
        ("/dead/replay", {}, 400, UNSAID),
        ("/dead/drop", {"confirm": True}, 400, UNSAID),
        (
            "/dead/replay",
            {"ids": ["evt_1"], "all": True},
            *(400, "ids and all exclude each other: name the dead letters, or mean all of them"),
        ),
        ("/dead/replay", {"ids": ["evt_1"]}, 404, 'there is no dead letter "evt_1"; `sluice dead list` shows them'),
        ("/dead/replay", {"endpoint": "larvel"}, 404, 'there is no endpoint "larvel"; there are laravel'),
        (
            "/dead/replay",
            {"since": "yesterday"},
            *(400, 'since: "yesterday" is not a moment such as 2026-01-31T12:00:00Z or null'),
        ),
        (
            "/dead/replay",
            {"since": "2026-01-31T12:00:00"},
            *(400, 'since: "2026-01-31T12:00:00" is not a moment such as 2026-01-31T12:00:00Z or null'),
        ),
        (
            "/dead/replay",
            {"since": "0001-01-01T00:00:00+14:00"},
            *(400, 'since: "0001-01-01T00:00:00+14:00" is not a moment such as 2026-01-31T12:00:00Z or null'),
        ),
        ("/dead/replay", {"session": 7}, 400, "session: 7 is not a text or null"),
        ("/dead/replay", {"ids": "evt_1"}, 400, 'ids: "evt_1" is not a list of texts of at most 1000 items'),
        ("/dead/replay", {"ids": [7]}, 400, "ids[0]: 7 is not a text"),
        ("/dead/replay", {"dry_run": 1}, 400, "dry_run: 1 is not true or false"),
        ("/dead/replay", {"limit": 1001, "all": True}, 400, "limit: 1001 is not a whole number from 1 to 1000"),
        ("/dead/replay", {"why": "x" * 70_000}, 413, "at most 65536 bytes"),
    ],
)
async def test_a_wrong_request_is_refused_with_its_cure(
    http: httpx2.AsyncClient, path: str, body: object, code: int, detail: str
) -> None:
    answered, answer = await post(http, path, body)
    assert (answered, answer["detail"]) == (code, detail)


@pytest.mark.parametrize(
    ("query", "code", "detail"),
    [
        ("?limit=none", 400, 'limit: "none" is not a whole number from 1 to 1000'),
        ("?limit=0", 400, "limit: 0 is not a whole number from 1 to 1000"),
        ("?since=now", 400, 'since: "now" is not a moment such as 2026-01-31T12:00:00Z or null'),
        (
            "?status=422",
            400,
            '"status" is not known here; there are after, endpoint, event, limit, reason, session, since, text, until',
        ),
        ("?endpoint=larvel", 404, 'there is no endpoint "larvel"; there are laravel'),
        ("/laravel/evt_9", 404, 'there is no dead letter "evt_9"; `sluice dead list` shows them'),
        ("/larvel/evt_9", 404, 'there is no endpoint "larvel"; there are laravel'),
    ],
)
async def test_a_wrong_search_is_refused_with_its_cure(
    http: httpx2.AsyncClient, query: str, code: int, detail: str
) -> None:
    answered, answer = await get(http, f"/dead{query}")
    assert (answered, answer["detail"]) == (code, detail)


@pytest.mark.parametrize("path", ["/circuits/laravel", "/probes/laravel", "/dead/replay", "/dead/drop"])
async def test_without_the_token_nothing_is_done(http: httpx2.AsyncClient, parts: Resources, path: str) -> None:
    answer = await http.post(API + path, json={"hold": "open"})
    assert answer.status_code == 401
    assert not (await open_circuit(parts.store, parts.policies.relay.endpoints["laravel"]).view()).held
