"""Attempts against a receiver that keeps what it was sent and answers what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from relay.deliver.outcome import Delivered, Failed, NotSent, Outcome, Paused, Refused, Rejected
from relay.deliver.sender import Sender
from relay.policies import CircuitPolicy, Endpoint, Retry
from relay.queue.codec import Delivery, Headers
from sluice.config import Preset, Secret, Signature
from sluice.http.signatures import refusal
from sluice.process.boottime import boottime
from tests.relay.receiver import OK, Got, Receiver, receiver
from tests.sluice.http.client.upstream import Call, Play, saying, upstream

pytestmark = pytest.mark.anyio

BODY = b'{"event":"message_received","data":{"session_id":"s1"}}'
RETRY, CIRCUIT = Retry(12, 1.0, 600.0), CircuitPolicy(30.0, 10, 0.5, 5.0, 300.0, 3)
BLAZZ = Signature("laravel", "blazz", Secret(b"hunter2"), 300.0)


def an_endpoint(url: str, **settings: Any) -> Endpoint:
    return Endpoint("laravel", url, "laravel", 2.0, 4, None, "session", RETRY, CIRCUIT, **settings)


def a_delivery(body: bytes = BODY, *, id: str = "evt_1", target: bytes = b"/hook", headers: Headers = ()) -> Delivery:  # noqa: A002
    return Delivery(
        id=id,
        type="message_received",
        session="s1",
        target=target,
        headers=headers,
        body=body,
        accepted_at=0.0,
        attempt=3,
        partition=0,
        stream=b"ns1",
        token=b"1",
        entry_id=b"e",
    )


@contextlib.asynccontextmanager
async def sender_of(endpoint: Endpoint, signature: Signature | None = BLAZZ) -> AsyncIterator[Sender]:
    sender = Sender(endpoint, signature)
    try:
        yield sender
    finally:
        await sender.close()


async def post(endpoint: Endpoint, delivery: Delivery, signature: Signature | None = BLAZZ) -> Outcome:
    async with sender_of(endpoint, signature) as sender:
        return await sender.post(delivery)


async def post_to(play: Play, timeout: float = 2.0) -> Outcome:
    async with upstream(play) as up:
        return await post(replace(an_endpoint(str(up.origin)), timeout=timeout), a_delivery())


# --- one event


async def test_the_stored_bytes_go_to_the_event_s_own_path_with_its_id_and_length() -> None:
    async with receiver() as laravel:
        headers = ((b"Content-Type", b"application/json"), (b"X-Instance-Url", b"http://w1"))
        endpoint = an_endpoint(laravel.url + "/base", forward=("X-Instance-Url",))
        assert await post(endpoint, a_delivery(headers=headers)) == Delivered(200)
        (got,) = laravel.got
    assert (got.line, got.body) == (b"POST /base/hook HTTP/1.1", BODY)
    assert got.all("host") == [b"127.0.0.1:%d" % laravel.port]
    assert (got.all("webhook-id"), got.all("x-sluice-attempt")) == ([b"evt_1"], [b"3"])
    assert (got.all("content-type"), got.all("x-instance-url")) == ([b"application/json"], [b"http://w1"])
    assert refusal(BLAZZ, got.headers, got.body, time.time()) is None


async def test_an_empty_body_has_a_length_too() -> None:
    async with receiver() as laravel:
        assert await post(an_endpoint(laravel.url), a_delivery(b"", target=b"")) == Delivered(200)
        (got,) = laravel.got
    assert (got.line, got.all("content-length")) == (b"POST / HTTP/1.1", [b"0"])


@pytest.mark.parametrize("preset", ["blazz", "body-sha256", "dotted", "waha", "standard", "key"])
async def test_every_preset_signs_what_is_sent_and_leaves_one_id(preset: Preset) -> None:
    signature = Signature("laravel", preset, Secret(b"k" * 24), 300.0)
    async with receiver() as laravel:
        await post(an_endpoint(laravel.url), a_delivery(), signature)
        (got,) = laravel.got
    assert refusal(signature, got.headers, got.body, time.time()) is None
    assert got.all("webhook-id") == [b"evt_1"]


async def test_the_standard_s_own_library_accepts_a_delivery() -> None:
    signature = Signature("laravel", "standard", Secret(b"new" * 8), 300.0, older=(Secret(b"old" * 8),))
    async with receiver() as laravel:
        await post(an_endpoint(laravel.url), a_delivery('{"text":"grüße"}'.encode()), signature)
        (got,) = laravel.got
    for key in (b"new" * 8, b"old" * 8):
        headers = {name.decode(): value.decode() for name, value in got.headers}
        assert Webhook(key).verify(got.body, headers) == {"text": "grüße"}


async def test_without_a_signature_nothing_is_signed() -> None:
    async with receiver() as laravel:
        await post(an_endpoint(laravel.url), a_delivery(), None)
        (got,) = laravel.got
    ours = {b"host", b"accept-encoding", b"webhook-id", b"x-sluice-attempt", b"content-length"}
    assert {name.lower() for name, _ in got.headers} == ours


async def test_what_the_policy_adds_stands_for_what_was_stored_and_what_is_signed_for_both() -> None:
    added = (("X-Tenant", Secret(b"ours")), ("x-timestamp", Secret(b"1")), ("X-New", Secret(b"new")))
    stored = ((b"x-tenant", b"theirs"), (b"X-Tenant", b"again"), (b"X-HMAC-Signature", b"old"), (b"X-Kept", b"kept"))
    async with receiver() as laravel:
        endpoint = an_endpoint(laravel.url, headers=added, forward=("X-Tenant", "X-HMAC-Signature", "X-Kept"))
        await post(endpoint, a_delivery(headers=stored))
        (got,) = laravel.got
    assert (got.all("x-tenant"), got.all("x-new"), got.all("x-kept")) == ([b"ours"], [b"new"], [b"kept"])
    assert refusal(BLAZZ, got.headers, got.body, time.time()) is None


async def test_an_endpoint_is_sent_only_the_headers_that_its_policy_names_and_those_about_the_content() -> None:
    stored = ((b"content-type", b"text/csv"), (b"X-INSTANCE-URL", b"http://w1"), (b"Cookie", b"a=b"))
    async with receiver() as laravel:
        for forward in (("X-Instance-Url",), ("cookie",), ()):
            await post(replace(an_endpoint(laravel.url), forward=forward), a_delivery(headers=stored))
    shown = [(got.all("content-type"), got.all("x-instance-url"), got.all("cookie")) for got in laravel.got]
    content, instance, cookie = [b"text/csv"], [b"http://w1"], [b"a=b"]
    assert shown == [(content, instance, []), (content, [], cookie), (content, [], [])]


async def test_the_answer_is_asked_for_as_people_can_read_it() -> None:
    async with receiver() as laravel:
        stored = ((b"Accept-Encoding", b"gzip, br"),)
        await post(an_endpoint(laravel.url, forward=("Accept-Encoding",)), a_delivery(headers=stored))
        await post(an_endpoint(laravel.url, headers=(("accept-encoding", Secret(b"gzip")),)), a_delivery())
    assert [got.all("accept-encoding") for got in laravel.got] == [[b"identity"], [b"gzip"]]


async def test_of_a_body_that_is_compressed_all_the_same_only_that_is_kept() -> None:
    async def compressed(call: Call) -> None:
        await call.head()
        body = gzip.compress(b'{"message":"no"}')
        call.say(b"HTTP/1.1 422 X\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    kept = "answered 422: a body in content coding gzip, which is not shown"
    assert await post_to(compressed) == Rejected(kept, 422)


async def test_a_stored_header_that_would_be_read_as_something_else_is_never_sent() -> None:
    forward = ("X-A", "X A", "Content-Length")
    async with receiver() as laravel, sender_of(an_endpoint(laravel.url, forward=forward)) as sender:
        for headers in [((b"X-A", b"a\r\nX-B: b"),), ((b"X A", b"a"),), ((b"Content-Length", b"5"),)]:
            outcome = await sender.post(a_delivery(headers=headers))
            assert isinstance(outcome, Rejected)
            assert outcome.reason.startswith("cannot be sent: ")
        assert laravel.got == []


async def test_a_redirect_is_a_failure_and_is_not_followed() -> None:
    async with receiver() as elsewhere:
        location = f"HTTP/1.1 307 X\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        assert await post_to(saying(location)) == Failed("answered 307", None, 307)
        assert elsewhere.got == []


async def test_nobody_listening_is_a_failure() -> None:
    async with receiver() as laravel:
        gone = laravel.url
    outcome = await post(an_endpoint(gone), a_delivery())
    assert outcome == Failed(f"no connection to {gone}: connection refused")


async def test_a_receiver_that_says_nothing_or_a_byte_at_a_time_is_a_failure_within_the_timeout() -> None:
    async def silent(call: Call) -> None:
        await call.gone()

    async def trickling(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            call.say(b"x")
            await call.writer.drain()
            await asyncio.sleep(0.02)

    for play in (silent, trickling):
        began = time.monotonic()
        assert isinstance(await post_to(play, timeout=0.3), Failed)
        assert time.monotonic() - began < 2.0


async def test_a_receiver_that_hangs_up_or_talks_nonsense_is_a_failure() -> None:
    async def hanging_up(call: Call) -> None:
        await call.head()

    assert await post_to(hanging_up) == Failed("upstream closed before the response")
    assert isinstance(await post_to(saying(b"hello\r\n\r\n")), Failed)


async def test_a_rejection_keeps_the_first_2_kib_of_an_endless_answer() -> None:
    async def endless(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 422 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            call.say(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await call.writer.drain()

    assert await post_to(endless) == Rejected("answered 422: " + "x" * 2048, 422)


# --- private addresses


async def test_a_name_that_leads_to_a_private_address_pauses_the_endpoint_and_names_the_cure() -> None:
    async with receiver() as laravel:
        outcome = await post(an_endpoint(f"http://2130706433:{laravel.port}"), a_delivery())
        assert laravel.got == []
    assert isinstance(outcome, Paused)
    assert outcome.status is None
    assert outcome.reason == (
        f"no connection to http://2130706433:{laravel.port}: 127.0.0.1 is not a public address (loopback); "
        "write private: allow at the endpoint if this is intended"
    )


async def test_the_policy_can_allow_it() -> None:
    async with receiver() as laravel:
        endpoint = an_endpoint(f"http://2130706433:{laravel.port}", private=True)
        assert await post(endpoint, a_delivery()) == Delivered(200)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_that_the_policy_itself_names_is_meant(host: str) -> None:
    async with receiver() as laravel:
        assert await post(an_endpoint(f"http://{host}:{laravel.port}"), a_delivery()) == Delivered(200)


# --- batches


def numbered(*numbers: int) -> list[Delivery]:
    return [a_delivery(b'{"n": %d}' % number, id=f"evt_{number}", target=b"/own/path") for number in numbers]


def numbers_in(got: Got) -> list[int]:
    return [item["n"] for item in orjson.loads(got.body)]


async def post_batch(laravel: Receiver, deliveries: list[Delivery], **settings: Any) -> list[Outcome]:
    async with sender_of(an_endpoint(laravel.url + "/batch", **settings)) as sender:
        return await sender.post_batch(deliveries)


async def test_a_batch_is_one_signed_array_of_the_stored_bodies_in_order() -> None:
    async with receiver() as laravel:
        outcomes = await post_batch(laravel, numbered(1, 2, 3), headers=(("X-Tenant", Secret(b"ours")),))
        (got,) = laravel.got
    assert outcomes == [Delivered(200)] * 3
    assert (got.line, got.body) == (b"POST /batch HTTP/1.1", b'[{"n": 1},{"n": 2},{"n": 3}]')
    assert got.all("x-sluice-event-ids") == [b"evt_1,evt_2,evt_3"]
    assert (got.all("content-type"), got.all("x-tenant")) == ([b"application/json"], [b"ours"])
    assert len(got.all("webhook-id")) == 1
    assert refusal(BLAZZ, got.headers, got.body, time.time()) is None


async def test_the_same_batch_has_the_same_id_and_another_one_another() -> None:
    async with receiver() as laravel:
        for numbers in ((1, 2), (1, 2), (2, 3)):
            await post_batch(laravel, numbered(*numbers))
        one, again, other = (got.all("webhook-id") for got in laravel.got)
    assert one == again != other


async def test_the_receiver_may_answer_for_each_event() -> None:
    async with receiver(lambda _: (207, b'[200, {"status": 422, "why": "no"}, 500]')) as laravel:
        outcomes = await post_batch(laravel, numbered(1, 2, 3))
    rejected = Rejected('answered 422: {"status":422,"why":"no"}', 422, is_proven=True)
    assert outcomes == [Delivered(200), rejected, Failed("answered 500", None, 500)]


async def test_the_answer_for_each_event_may_be_long() -> None:
    answer = orjson.dumps([{"status": 200, "note": "x" * 400}] * 100)
    async with receiver(lambda _: (207, answer)) as laravel:
        assert await post_batch(laravel, numbered(*range(100))) == [Delivered(200)] * 100


async def test_a_body_that_is_not_json_is_rejected_alone_and_never_sent() -> None:
    one, two = numbered(1, 2)
    async with receiver() as laravel:
        outcomes = await post_batch(laravel, [one, a_delivery(b"a=b"), a_delivery(b""), two, a_delivery(b"\xff")])
        assert [numbers_in(got) for got in laravel.got] == [[1, 2]]
    rejected = Rejected("the body is not JSON, or has over 2,000,000 values: it cannot go into a batch", None)
    assert outcomes == [Delivered(200), rejected, rejected, Delivered(200), rejected]


async def test_one_bad_event_does_not_bury_its_batch() -> None:
    async with receiver(lambda got: (422, b"no 5") if 5 in numbers_in(got) else OK) as laravel:
        outcomes = await post_batch(laravel, numbered(*range(8)))
        taken = [number for got in laravel.got if 5 not in numbers_in(got) for number in numbers_in(got)]
        assert len(laravel.got) <= 7
    rejected = Rejected("answered 422: no 5", 422, is_proven=True)
    assert outcomes == [rejected if n == 5 else Delivered(200) for n in range(8)]
    assert taken == [0, 1, 2, 3, 4, 6, 7]


async def test_a_batch_of_which_everything_is_rejected_shows_nobody_s_fault_and_is_not_searched_to_its_end() -> None:
    async with receiver(lambda _: (422, b"no")) as laravel:
        outcomes = await post_batch(laravel, numbered(*range(8)))
        assert [len(numbers_in(got)) for got in laravel.got] == [8, 4, 2, 1]
    assert outcomes == [Rejected("answered 422: no", 422)] + [NotSent("an earlier event of its batch failed")] * 7


async def test_a_session_does_not_overtake_its_event_that_may_come_again_but_others_go_and_show_its_fault() -> None:
    batch = numbered(0, 1, 2, 3)
    for other in batch[2:]:
        other.stream = b"ns2"
    async with receiver(lambda got: (422, b"no") if 0 in numbers_in(got) else OK) as laravel:
        outcomes = await post_batch(laravel, batch)
        assert [numbers_in(got) for got in laravel.got] == [[0, 1, 2, 3], [0, 1], [0], [2, 3]]
    not_sent = NotSent("an earlier event of its batch failed")
    rejected = Rejected("answered 422: no", 422, is_proven=True)
    assert outcomes == [rejected, not_sent, Delivered(200), Delivered(200)]


async def test_a_batch_that_is_too_large_for_the_receiver_is_sent_in_parts() -> None:
    async with receiver(lambda got: (413, b"") if len(numbers_in(got)) > 2 else OK) as laravel:
        assert await post_batch(laravel, numbered(*range(8))) == [Delivered(200)] * 8
        taken = [numbers_in(got) for got in laravel.got if len(numbers_in(got)) <= 2]
    assert taken == [[0, 1], [2, 3], [4, 5], [6, 7]]


async def test_nothing_overtakes_a_part_that_failed() -> None:
    answers = iter([(422, b""), (500, b"")])
    async with receiver(lambda _: next(answers)) as laravel:
        outcomes = await post_batch(laravel, numbered(1, 2, 3, 4))
        assert [numbers_in(got) for got in laravel.got] == [[1, 2, 3, 4], [1, 2]]
    not_sent = NotSent("an earlier event of its batch failed")
    assert outcomes == [Failed("answered 500", None, 500)] * 2 + [not_sent] * 2


async def test_looking_for_the_bad_event_ends_with_the_timeout() -> None:
    async def slowly_rejecting(call: Call) -> None:
        while True:
            await call.head()
            await asyncio.sleep(0.12)
            call.say(b"HTTP/1.1 422 X\r\nContent-Length: 0\r\n\r\n")

    async with upstream(slowly_rejecting) as up:
        endpoint = replace(an_endpoint(str(up.origin)), timeout=0.3)
        began = time.monotonic()
        async with sender_of(endpoint) as sender:
            outcomes = await sender.post_batch(numbered(*range(16)))
        assert time.monotonic() - began < 2.0
    assert len(outcomes) == 16
    assert all(isinstance(outcome, (Failed, NotSent)) for outcome in outcomes)
    assert isinstance(outcomes[0], Failed)


async def test_a_batch_of_which_nothing_is_left_is_not_sent() -> None:
    async with receiver() as laravel:
        assert await post_batch(laravel, []) == []
        assert isinstance((await post_batch(laravel, [a_delivery(b"no")]))[0], Rejected)
        assert laravel.got == []


async def test_a_receiver_that_is_away_fails_the_whole_batch() -> None:
    async with receiver() as laravel:
        gone = laravel
    outcomes = await post_batch(gone, numbered(1, 2))
    assert outcomes == [Failed(f"no connection to {gone.url}: connection refused")] * 2


# --- the status line decides


def breaking_off(answer: bytes, *, cut: bool) -> Play:
    async def play(call: Call) -> None:
        await call.head()
        call.say(answer)
        if cut:
            await asyncio.sleep(0.05)
            call.close()
        else:
            await call.gone()

    return play


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100\r\n\r\nsome", b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", b"\r\nsome"]
)
@pytest.mark.parametrize(
    ("status", "kind"), [(200, Delivered), (204, Delivered), (422, Rejected), (404, Refused), (429, Paused)]
)
async def test_the_status_line_decides_when_the_body_hangs_or_is_cut(
    status: int, kind: type[Outcome], framing: bytes, cut: bool
) -> None:
    if status == 204:
        framing = b"\r\n"
    async with upstream(breaking_off(b"HTTP/1.1 %d X\r\n" % status + framing, cut=cut)) as up:
        began = time.monotonic()
        outcome = await post(replace(an_endpoint(str(up.origin)), timeout=8.0), a_delivery())
        assert time.monotonic() - began < 4.0
    assert isinstance(outcome, kind)
    if kind is Rejected:
        assert outcome == Rejected("answered 422: some", 422)


async def test_a_body_in_broken_chunks_does_not_undo_a_2xx() -> None:
    answer = b"HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nno length\r\n"
    async with upstream(breaking_off(answer, cut=False)) as up:
        assert await post(an_endpoint(str(up.origin)), a_delivery()) == Delivered(201)


@pytest.mark.parametrize(("status", "kind"), [(200, Delivered), (207, Failed)])
async def test_a_batch_whose_answer_is_cut_is_delivered_unless_it_was_to_be_answered_event_by_event(
    status: int, kind: type[Outcome]
) -> None:
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\n[200," % status
    async with upstream(breaking_off(answer, cut=True)) as up, sender_of(an_endpoint(str(up.origin))) as sender:
        assert [type(outcome) for outcome in await sender.post_batch(numbered(1, 2))] == [kind, kind]


# --- nothing is sent after its lease


async def test_nothing_is_sent_when_the_connection_came_too_late() -> None:
    """The one connection is in use, until long after the moment by which the second should have begun."""
    lets_go = asyncio.Event()

    async def play(call: Call) -> None:
        while True:
            await call.head()
            await call.reader.readexactly(len(BODY))
            await lets_go.wait()
            call.say(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with upstream(play) as up, sender_of(replace(an_endpoint(str(up.origin)), concurrency=1)) as sender:
        first = asyncio.create_task(sender.post(a_delivery()))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(sender.post(a_delivery(), boottime() + 0.2))
        await asyncio.sleep(0.4)
        lets_go.set()
        assert await first == Delivered(200)
        assert await second == NotSent("its lease was over before it could be sent")
        batch = await sender.post_batch(numbered(1, 2), boottime() - 1)
        assert batch == [NotSent("its lease was over before it could be sent")] * 2
        assert await sender.post(a_delivery(), boottime() + 60) == Delivered(200)
