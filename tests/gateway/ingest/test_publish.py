from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette

from gateway.ingest import publish
from gateway.ingest.hold import Hold
from gateway.ingest.publish import MAX_BODY, MAX_LIST
from gateway.ingest.webhooks import Ingest
from gateway.policies import Policies, load
from relay.process import open_queue
from relay.queue.codec import Delivery
from relay.queue.inbox import Inbox
from relay.queue.queue import Settlement
from sluice.config import Secret, Signature
from sluice.http.bodies import BodyBudget
from sluice.http.signatures import sign
from sluice.store.client import Store
from tests.gateway.running import Gate

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]

SIGNATURE = Signature("publishers", "blazz", Secret(b"quite-secret"), 300.0)
POLICIES = """
version: 1
store: {promise: memory}
signatures: {publishers: {preset: blazz, secret: env:SECRET}}
relay:
  verify: publishers
  endpoints:
    laravel: {url: "http://127.0.0.1:1", forward: [X-Instance-Url, X-Empty]}
    orders: {url: "http://127.0.0.1:2", events: [order_*]}
    calls: {url: "http://127.0.0.1:3", events: [call]}
  lanes: {urgent: [order_urgent]}
  events: {order_state: {keep: latest, by: /data/id}}
"""


class Api:
    """Signs what it posts, unless told otherwise."""

    def __init__(self, folder: Path, store: Store, text: str = POLICIES) -> None:
        path = folder / "policies.yaml"
        path.write_text(text)
        self.policies: Policies = load(path, environment={"SECRET": "quite-secret"})
        endpoints = self.policies.relay.endpoints
        self.queues = {name: open_queue(store, endpoint, self.policies) for name, endpoint in endpoints.items()}
        app = Starlette(
            routes=publish.routes(
                self.policies,
                Ingest(self.policies, self.queues, Hold(Inbox(store), BodyBudget(2**25))),
                BodyBudget(2**25),
            )
        )
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")

    async def post(self, events: object, key: str = "") -> httpx2.Response:
        return await self.post_bytes(orjson.dumps(events), key)

    async def post_bytes(self, body: bytes, key: str = "", signature: Signature = SIGNATURE) -> httpx2.Response:
        headers = [*sign(signature, body, time.time()), *([(b"Idempotency-Key", key.encode())] if key else [])]
        return await self.http.post("/_sluice/events", content=body, headers=headers)

    async def stored(self, endpoint: str) -> list[Delivery]:
        """What waits for an endpoint: the first of each session."""
        self.queues[endpoint].look_everywhere()
        return (await self.queues[endpoint].poll([], 100)).leased


@pytest.fixture
async def api(tmp_path: Path, store: Store) -> AsyncIterator[Api]:
    api = Api(tmp_path, store)
    async with api.http:
        yield api


def problem(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    fields: dict[str, Any] = response.json()
    assert (fields["type"], fields["status"]) == ("about:blank", status)
    return str(fields["detail"])


# --- what is stored


async def test_an_event_is_stored_for_every_endpoint_whose_events_it_is_one_of(api: Api) -> None:
    response = await api.post({"type": "order_paid", "session": "s1", "data": {"id": 17}})
    assert response.status_code == 202
    told = response.json()
    assert told == {"status": "queued", "id": told["id"], "promise": "memory", "endpoints": ["laravel", "orders"]}
    for endpoint in ("laravel", "orders"):
        (delivery,) = await api.stored(endpoint)
        assert (delivery.id, delivery.type, delivery.session) == (told["id"], "order_paid", "s1")
    assert await api.stored("calls") == []


async def test_the_receiver_gets_the_event_s_own_bytes_at_its_path(api: Api) -> None:
    body = b'\n {"type" : "a",\t"path":"/hooks/a?b=c", "data": [1.50, 12345678901234567890123, "\\u00e9\xc3\xa9"]} \n'
    await api.post_bytes(body)
    (delivery,) = await api.stored("laravel")
    assert delivery.body == body.strip()
    assert (delivery.target, delivery.headers) == (b"/hooks/a?b=c", ((b"Content-Type", b"application/json"),))


async def test_an_event_brings_the_headers_that_its_publisher_names(api: Api) -> None:
    await api.post({"type": "a", "headers": {"X-Instance-Url": "http://10.0.0.5:3000", "X-Empty": ""}})
    (delivery,) = await api.stored("laravel")
    given = ((b"X-Instance-Url", b"http://10.0.0.5:3000"), (b"X-Empty", b""))
    assert delivery.headers == ((b"Content-Type", b"application/json"), *given)


async def test_a_header_that_no_endpoint_of_the_event_gets_is_refused(api: Api) -> None:
    answer = await api.post({"type": "a", "headers": {"X-Instance-Url": "http://10.0.0.5:3000", "X-Other": "1"}})
    why = "no endpoint that takes this event gets this header; name it in forward: of one (relay.endpoints)"
    assert problem(answer, 400) == f"headers.X-Other: {why}"
    assert await api.stored("laravel") == []


async def test_a_published_address_of_a_worker_is_the_one_to_advertise_too(tmp_path: Path, store: Store) -> None:
    api = Api(tmp_path, store, f"{POLICIES}sessions: {{advertise: http://sluice:8080}}\n")
    async with api.http:
        await api.post({"type": "a", "headers": {"X-INSTANCE-URL": "http://10.0.0.5:3000"}})
        (delivery,) = await api.stored("laravel")
    assert (b"X-INSTANCE-URL", b"http://sluice:8080") in delivery.headers


async def test_the_events_of_a_list_keep_their_own_bytes_too(api: Api) -> None:
    pieces = [b'{"type":"a", "data":"],[ \\" \xf0\x9f\x91\x8b"}', b'{ "type":"b","data":1.0E3 }', b'{"type":"c"}']
    response = await api.post_bytes(b" [" + b" ,\n".join(pieces) + b"\t] ")
    ids = [told["id"] for told in response.json()["events"]]
    assert len(set(ids)) == 3
    found = {delivery.id: delivery.body for delivery in await api.stored("laravel")}
    assert [found[one] for one in ids] == pieces


async def test_a_list_of_one_session_is_delivered_in_its_order(api: Api) -> None:
    response = await api.post([{"type": "a", "session": "s1", "data": n} for n in range(600)])
    assert response.status_code == 202
    assert [told["status"] for told in response.json()["events"]] == ["queued"] * 600
    (first,) = await api.stored("laravel")
    assert orjson.loads(first.body)["data"] == 0
    assert (await api.queues["laravel"].counts()).waiting == 599


async def test_lane_and_staleness_are_as_the_policies_say(api: Api) -> None:
    for state in ("new", "paid"):
        await api.post({"type": "order_state", "session": "s1", "data": {"id": "17", "state": state}})
    await api.post({"type": "order_urgent", "session": "s1"})
    bodies = {one.stream[:1]: orjson.loads(one.body) for one in await api.stored("laravel")}
    assert bodies[b"u"]["type"] == "order_urgent"
    assert bodies[b"n"]["data"]["state"] == "paid"
    assert (await api.queues["laravel"].counts()).replaced == 1


async def test_an_event_that_no_endpoint_takes_is_said_to_be_ignored(tmp_path: Path, store: Store) -> None:
    head = POLICIES[: POLICIES.index("  endpoints:")]
    api = Api(tmp_path, store, head + '  endpoints: {calls: {url: "http://127.0.0.1:3", events: [call]}}\n')
    async with api.http:
        response = await api.post({"type": "order_paid", "id": "o-1"})
    assert (response.status_code, response.json()) == (202, {"status": "ignored", "id": "o-1", "endpoints": []})


# --- repeats


async def test_a_repeat_of_its_own_id_is_stored_once(api: Api) -> None:
    event = {"type": "order_paid", "session": "s1", "id": "order-17"}
    first, again = await api.post(event), await api.post(event)
    assert first.json() == {
        "status": "queued",
        "id": "order-17.s1",
        "promise": "memory",
        "endpoints": ["laravel", "orders"],
    }
    assert again.json() == first.json() | {"repeat": True}
    assert (await api.queues["orders"].counts()).waiting == 1


async def test_a_repeat_of_its_idempotency_key_is_stored_once(api: Api) -> None:
    first = await api.post({"type": "order_paid"}, key="k1")
    again = await api.post({"type": "order_paid"}, key="k1")
    other = await api.post({"type": "order_paid"}, key="k2")
    assert again.json() == first.json() | {"repeat": True}
    assert other.json()["id"] != first.json()["id"]
    assert (await api.queues["orders"].counts()).waiting == 2


async def test_in_a_list_the_key_is_that_of_each_place_unless_an_event_has_its_own_id(api: Api) -> None:
    events = [{"type": "a"}, {"type": "a"}, {"type": "a", "id": "own"}]
    first = (await api.post(events, key="k1")).json()["events"]
    again = (await api.post(events, key="k1")).json()["events"]
    assert len({told["id"] for told in first}) == 3
    assert first[2]["id"] == "own"
    assert again == [told | {"repeat": True} for told in first]


async def test_without_id_and_key_every_event_is_a_new_one(api: Api) -> None:
    ids = {(await api.post({"type": "a"})).json()["id"] for _ in range(3)}
    assert len(ids) == 3


async def test_many_publishers_at_once_lose_nothing(api: Api) -> None:
    posts = [api.post([{"type": "a", "session": f"s{n}"} for n in range(20)]) for _ in range(20)]
    responses = await asyncio.gather(*posts)
    assert [response.status_code for response in responses] == [202] * 20
    assert (await api.queues["laravel"].counts()).waiting == 400


# --- who may


async def test_without_a_signature_in_the_policies_nobody_publishes(tmp_path: Path, store: Store) -> None:
    api = Api(tmp_path, store, POLICIES.replace("  verify: publishers\n", ""))
    async with api.http:
        detail = problem(await api.post({"type": "a"}), 403)
    assert detail == "relay.verify names no signature; set it in policies.yaml"


async def test_a_wrong_signature_is_refused_with_the_reason(api: Api) -> None:
    stranger = Signature("publishers", "blazz", Secret(b"guessed"), 300.0)
    assert "same secret" in problem(await api.post_bytes(b"{}", signature=stranger), 401)
    unsigned = await api.http.post("/_sluice/events", content=b"{}")
    assert "X-HMAC-Signature" in problem(unsigned, 401)
    assert await api.stored("laravel") == []


async def test_the_gateway_answers_at_its_reserved_path(gate: Gate) -> None:
    response = await gate.http.post("/_sluice/events", content=b"{}")
    assert problem(response, 403) == "relay.verify names no signature; set it in policies.yaml"


# --- what is refused


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON: "),
        (b"{", "the body is not JSON: "),
        (b'{"type":"a"}{"type":"b"}', "the body is not JSON: "),
        (b'{"type":NaN}', "the body is not JSON: "),
        (b'{"type":"\xff"}', "the body is not JSON: "),
        (b"[" * 2000 + b"]" * 2000, "the body is not JSON: "),
        (b"null", "the body: must be an event, or a list of them, not null or absent"),
        (b'"a"', "the body: must be an event, or a list of them, not a string"),
        (b"[]", "the list is empty"),
        (b'[{"type":"a"}, 7]', "[1]: must be an object, not a number"),
        (b'[{"type":"a"}, []]', "[1]: must be an object, not a list"),
        (b"{}", "type: must be an event type, 1 to 128 of A-Z a-z 0-9 _ . : / -, not null or absent"),
        (b'{"type":7}', "type: must be an event type, 1 to 128 of A-Z a-z 0-9 _ . : / -, not a number"),
        (b'{"type":"a b"}', "type: must be an event type, 1 to 128 of A-Z a-z 0-9 _ . : / -"),
        (b'{"type":""}', "type: must be an event type, 1 to 128 of A-Z a-z 0-9 _ . : / -"),
        (b'[{"type":"a"},{"typ":"a"}]', "[1].typ: unknown; did you mean type"),
        (b'{"type":"a","quux":1}', "quux: unknown; an event has type, session, data, id, path, headers, fence"),
        (
            b'{"type":"a","headers":["X-A"]}',
            'headers: must be an object such as {"X-Instance-Url": "http://10.0.0.5:3000"}, not a list',
        ),
        (
            b'[{"type":"a","headers":{"X A":"1"}}]',
            '[0].headers.X A: "X A" is not the name of a header; write X-Event-Type',
        ),
        (b'{"type":"a","headers":{"X-A":1}}', "headers.X-A: must be a string, not a number"),
        (
            b'{"type":"a","headers":{"X-A":"1\\r\\nX-B: 2"}}',
            "headers.X-A: has line breaks or characters beyond ASCII, or is over 4096 bytes, or begins or ends with a "
            "blank; write what a header can carry",
        ),
        (
            b'{"type":"a","headers":{"X_Forwarded.For":"1.2.3.4"}}',
            'headers.X_Forwarded.For: "X_Forwarded.For" is written by Sluice alone; use another header',
        ),
        (
            b'{"type":"a","headers":{"Content_Length":"0"}}',
            'headers.Content_Length: "Content_Length" is written by Sluice alone; use another header',
        ),
        (
            b'{"type":"a","headers":{"Content-Length":"0"}}',
            'headers.Content-Length: "Content-Length" is written by Sluice alone; use another header',
        ),
        (
            b'{"type":"a","headers":{"X-Sluice-Fence":"7"}}',
            'headers.X-Sluice-Fence: "X-Sluice-Fence" is written by Sluice alone; use another header',
        ),
        (
            b'{"type":"a","headers":{' + b",".join(b'"X-%d":""' % i for i in range(17)) + b"}}",
            "headers: has 17 headers, it may have 16",
        ),
        (b'{"type":"a","session":17}', "session: must be a string, not a number"),
        (b'{"type":"a","session":""}', "session: must be 1 to 200 printable characters"),
        (b'{"type":"a","session":"a\\u0000b"}', "session: must be 1 to 200 printable characters"),
        (b'{"type":"a","session":"%b"}' % (b"s" * 201), "session: must be 1 to 200 printable characters"),
        (b'{"type":"a","id":""}', "id: must be 1 to 128 of A-Z a-z 0-9 _ : -"),
        (b'{"type":"a","id":"a.b"}', "id: must be 1 to 128 of A-Z a-z 0-9 _ : -"),
        (b'{"type":"a","id":null}', "id: must be 1 to 128 of A-Z a-z 0-9 _ : -, not null or absent"),
        (b'{"type":"a","path":"hook"}', "path: must be a path such as /hooks/orders"),
        (b'{"type":"a","path":"/a b"}', "path: must be a path such as /hooks/orders"),
        (b'{"type":"a","path":"/a\\r\\nX-B: c"}', "path: must be a path such as /hooks/orders"),
        (b'[{"type":"a","data":%b1%b}]' % (b"[" * 1000, b"]" * 1000), "the list is nested too deeply"),
        (b'{"type":"a","path":["/a"]}', "path: must be a path such as /hooks/orders, not a list"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_stored(api: Api, body: bytes, said: str) -> None:
    detail = problem(await api.post_bytes(body), 400)
    assert detail == said or (said.endswith(": ") and detail.startswith(said))
    assert await api.stored("laravel") == []


async def test_a_list_has_an_end(api: Api) -> None:
    response = await api.post([{"type": "a"}] * (MAX_LIST + 1))
    assert problem(response, 413) == "the list has 1001 events, it may have 1000"


async def test_a_body_has_an_end_stated_or_not(api: Api) -> None:
    body = b" " * (MAX_BODY + 1)
    assert problem(await api.post_bytes(body), 413) == "the body may have 8388608 bytes"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 2**20):
            yield body[start : start + 2**20]

    response = await api.http.post("/_sluice/events", content=chunks(), headers=sign(SIGNATURE, body, time.time()))
    assert problem(response, 413) == "the body may have 8388608 bytes"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_publishes(api: Api, method: str) -> None:
    assert (await api.http.request(method, "/_sluice/events")).status_code == 405


# --- when it cannot be stored


async def test_an_id_or_a_key_with_other_content_is_422_whatever_the_order_of_its_members(api: Api) -> None:
    for key, own in (("", {"id": "o-1"}), ("k1", {})):
        first = await api.post_bytes(
            orjson.dumps({"type": "call", "session": "s1", "data": {"a": 1, "b": 2}} | own), key
        )
        again = await api.post_bytes(
            orjson.dumps(own | {"data": {"b": 2, "a": 1}, "session": "s1", "type": "call"}), key
        )
        assert (first.status_code, again.json()["repeat"]) == (202, True)
        other = await api.post({"type": "call", "session": "s1", "data": {"a": 1, "b": 3}} | own, key)
        assert problem(other, 422) == (
            "an event with this id or key was accepted before, with other content (relay.dedupe); "
            "give each event an id of its own, and a repeat the same content"
        )
        assert "retry-after" not in other.headers
        elsewhere = await api.post({"type": "call", "session": "s2", "data": {"a": 1, "b": 3}} | own, key)
        assert elsewhere.status_code == 202


async def test_a_list_with_one_that_is_422_names_the_others(api: Api) -> None:
    await api.post({"type": "call", "id": "o-1", "data": 1})
    listed = await api.post([{"type": "call", "id": "o-2"}, {"type": "call", "id": "o-1", "data": 2}])
    assert listed.status_code == 422
    assert [told["status"] for told in listed.json()["events"]] == ["queued", "refused"]


async def test_a_full_backlog_is_refused_with_the_cure_and_a_time(tmp_path: Path, store: Store) -> None:
    text = POLICIES.replace('{url: "http://127.0.0.1:1"}', '{url: "http://127.0.0.1:1", events: [order_*]}')
    api = Api(tmp_path, store, text + "  backlog: {events: 1}\n")
    async with api.http:
        responses = [await api.post({"type": "order_paid", "session": "s1", "id": f"o-{n}"}) for n in range(2)]
        listed = await api.post([{"type": "call", "id": "c-1"}, {"type": "order_paid", "session": "s1", "id": "o-9"}])
    refused = responses[-1]
    assert problem(refused, 503) == "the backlog of laravel is full (relay.backlog)"
    assert refused.headers["retry-after"] == "30"
    assert [(await api.queues[name].counts()).waiting for name in ("orders", "laravel")] == [1, 1]
    events = listed.json()["events"]
    assert problem(listed, 503) == "the backlog of laravel is full (relay.backlog)"
    assert [told["status"] for told in events] == ["queued", "refused"]
    assert events[1] == {
        "status": "refused",
        "id": "o-9.s1",
        "detail": "the backlog of laravel is full (relay.backlog)",
    }


async def test_the_answer_names_the_endpoints_that_leave_an_event_out(tmp_path: Path, store: Store) -> None:
    api = Api(tmp_path, store, POLICIES + "  backlog: {events: 1}\n")
    async with api.http:
        await api.post({"type": "order_paid", "session": "s1", "id": "o-1"})
        (waiting,) = (await api.queues["laravel"].poll([], 10)).leased
        await api.queues["laravel"].poll([Settlement(waiting, "delivered")], 0)
        first = await api.post({"type": "order_paid", "session": "s1", "id": "o-2"})
    assert first.status_code == 202
    assert (first.json()["endpoints"], first.json()["left_out"]) == (["laravel"], ["orders"])


async def test_while_the_store_is_away_publishers_are_told_to_send_it_again(tmp_path: Path) -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    api = Api(tmp_path, absent)
    async with api.http:
        response = await api.post([{"type": "a", "id": "1"}, {"type": "a", "id": "2"}])
    assert problem(response, 503) == "the event could not be stored; send it again"
    assert response.headers["retry-after"] == "2"
    assert [told["status"] for told in response.json()["events"]] == ["refused", "refused"]
    await absent.close()
