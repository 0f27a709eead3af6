from __future__ import annotations

import time
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import given, strategies as st

from sluice.demo import laravel
from sluice.demo.laravel import Ledger, Limiter
from sluice.http.signatures import sign
from tests.sluice.demo.serving import SIGNATURE, sequences, served

pytestmark = pytest.mark.anyio

WEBHOOK = "/api/whatsapp/webhooks/webjs"


def message(sequence: int | None, session: str = "webjs_1_1_a", event: str = "message_received") -> dict[str, Any]:
    data: dict[str, Any] = {"workspace_id": 1, "session_id": session}
    return {"event": event, "data": data if sequence is None else {**data, "sequence": sequence}}


async def post(
    client: httpx2.AsyncClient, body: object, headers: dict[str, str] | None = None, age: float = 0
) -> httpx2.Response:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    signed = sign(SIGNATURE, raw, time.time() - age)
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return await client.post(WEBHOOK, content=raw, headers=[*signed, *extra])


# --- the limiter


def test_the_first_hundred_pass_and_the_next_one_is_refused() -> None:
    limiter = Limiter(100, 60)
    assert [limiter.accepts("a", n * 0.1) for n in range(101)] == [True] * 100 + [False]


def test_a_slow_but_steady_sender_is_shut_out_too_as_its_window_never_ends() -> None:
    limiter = Limiter(100, 60)
    assert [limiter.accepts("a", n * 59.0) for n in range(101)] == [True] * 100 + [False]


def test_a_refusal_does_not_lengthen_the_shut_out_and_a_minute_after_the_last_accepted_it_opens() -> None:
    limiter = Limiter(100, 60)
    for _ in range(100):
        assert limiter.accepts("a", 10.0)
    assert not any(limiter.accepts("a", 10.0 + tenth / 10) for tenth in range(600))
    assert limiter.accepts("a", 70.0)


def test_a_sender_of_250_a_minute_loses_more_than_60_of_100() -> None:
    limiter = Limiter(100, 60)
    passed = [limiter.accepts("a", n * 60 / 250) for n in range(2500)]
    assert passed.count(False) / len(passed) > 0.6


def test_addresses_do_not_know_of_each_other() -> None:
    limiter = Limiter(1, 60)
    assert limiter.accepts("a", 0)
    assert limiter.accepts("b", 0)
    assert not limiter.accepts("a", 1)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 1.0, 9.0, 10.0, 11.0])), max_size=40),
)
def test_the_limiter_decides_like_the_history_of_what_it_accepted(limit: int, steps: list[tuple[str, float]]) -> None:
    limiter = Limiter(limit, 10)
    history: dict[str, list[float]] = {"a": [], "b": []}
    now = 0.0
    for address, later in steps:
        now += later
        run = history[address]
        if run and now - run[-1] >= 10:
            run.clear()
        assert limiter.accepts(address, now) == (len(run) < limit)
        if len(run) < limit:
            run.append(now)


# --- the ledger


def test_a_repeat_is_known_by_its_id_and_is_not_disorder() -> None:
    ledger = Ledger()
    for event_id, sequence in [("x", 1), ("y", 2), ("x", 1)]:
        ledger.accept(event_id, message(sequence), 0.0)
    assert (ledger.repeated, ledger.out_of_order) == (1, 0)
    assert [one.attempt for one in ledger.deliveries] == [1, 1, 2]


def test_a_sender_without_ids_is_known_by_session_and_sequence() -> None:
    ledger = Ledger()
    for body in (message(1), message(1, session="other"), message(1), message(None), message(None)):
        ledger.accept(None, body, 0.0)
    assert (ledger.accepted, ledger.repeated) == (5, 1)


def test_an_event_that_comes_after_a_later_one_of_its_session_is_out_of_order_and_a_gap_is_not() -> None:
    ledger = Ledger()
    for event_id, sequence in enumerate([1, 5, 3, 6]):
        ledger.accept(str(event_id), message(sequence), 0.0)
    ledger.accept("other", message(2, session="other"), 0.0)
    assert ledger.out_of_order == 1
    assert sequences(ledger, "webjs_1_1_a") == [1, 5, 3, 6]


def test_an_attempt_that_was_refused_counts_as_one() -> None:
    ledger = Ledger()
    ledger.refuse("x", message(1))
    assert ledger.accept("x", message(1), 0.0).attempt == 2
    assert (ledger.refused, ledger.repeated) == (1, 0)


def test_only_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laravel, "KEPT", 3)
    ledger = Ledger()
    for sequence in range(1, 6):
        ledger.accept(str(sequence), message(sequence), 0.0)
    assert [one.sequence for one in ledger.deliveries] == [3, 4, 5]
    assert ledger.accept("1", message(1), 0.0).attempt == 1
    assert ledger.accept("5", message(5), 0.0).attempt == 2


# --- the receiver


async def test_a_signed_webhook_is_received_and_stands_in_the_ledger() -> None:
    async with served(laravel.app(SIGNATURE)) as url, httpx2.AsyncClient(base_url=url) as client:
        answer = await post(client, message(1), {"webhook-id": "x"})
        assert (answer.status_code, answer.json()) == (200, {"status": "received"})
        await post(client, message(None, event="heartbeat"))
        summary = (await client.get("/ledger")).json()
        assert summary["events"] == {"message_received": 1, "heartbeat": 1}
        assert {k: summary[k] for k in ("accepted", "refused", "repeated", "out_of_order")} == {
            "accepted": 2,
            "refused": 0,
            "repeated": 0,
            "out_of_order": 0,
        }
        first, second = [orjson.loads(line) for line in (await client.get("/ledger/events")).content.splitlines()]
    assert abs(first.pop("at") - time.time()) < 10
    assert first == {"id": "x", "event": "message_received", "session": "webjs_1_1_a", "sequence": 1, "attempt": 1}
    assert (second["id"], second["sequence"]) == (None, None)


async def test_a_bad_or_stale_signature_is_refused_and_costs_no_allowance() -> None:
    async with served(laravel.app(SIGNATURE, limit=1)) as url, httpx2.AsyncClient(base_url=url) as client:
        unsigned = await client.post(WEBHOOK, content=b"{}")
        stale = await post(client, message(1), age=400)
        assert (unsigned.status_code, stale.status_code) == (401, 401)
        assert "s old, 300s are allowed" in stale.json()["message"]
        assert (await post(client, message(1))).status_code == 200
        assert (await client.get("/ledger")).json()["unauthorized"] == 2


async def test_over_the_limit_it_answers_429_without_retry_after_until_a_minute_was_quiet() -> None:
    now = [0.0]
    receiver = laravel.app(SIGNATURE, limit=2, minute=60, clock=lambda: now[0])
    async with served(receiver) as url, httpx2.AsyncClient(base_url=url) as client:
        answers = [await post(client, message(n)) for n in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json() == {"message": "Too Many Attempts."}
        assert "retry-after" not in answers[2].headers
        now[0] = 60.0
        assert (await post(client, message(2))).status_code == 200
        assert (await client.get("/ledger")).json()["refused"] == 1


async def test_the_limiter_goes_by_the_tcp_peer_unless_forwarding_is_trusted() -> None:
    for trusted, second in ((False, 429), (True, 200)):
        receiver = laravel.app(SIGNATURE, limit=1, trust_forwarded=trusted)
        async with served(receiver) as url, httpx2.AsyncClient(base_url=url) as client:
            assert (await post(client, message(1), {"x-forwarded-for": "9.9.9.9, 10.0.0.1"})).status_code == 200
            assert (await post(client, message(2), {"x-forwarded-for": "9.9.9.9, 10.0.0.2"})).status_code == second


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"event":"x","data":7}'])
async def test_a_strange_body_never_breaks_it(body: bytes) -> None:
    async with served(laravel.app(SIGNATURE)) as url, httpx2.AsyncClient(base_url=url) as client:
        assert (await post(client, body)).status_code in (200, 422)


async def test_any_other_path_shows_how_the_request_came_through() -> None:
    async with served(laravel.app(SIGNATURE)) as url, httpx2.AsyncClient(base_url=url) as client:
        headers = {"x-forwarded-for": "10.0.0.7", "x-forwarded-host": "<b>", "authorization": "Bearer s3cret"}
        answer = await client.request("PATCH", "/a/b?c=<d>", headers=headers)
        root = await client.get("/")
    assert (answer.status_code, root.status_code) == (200, 200)
    assert "PATCH /a/b?c=" in answer.text
    assert "10.0.0.7" in answer.text
    assert "&lt;b&gt;" in answer.text
    assert "<b>" not in answer.text
    assert "s3cret" not in answer.text
