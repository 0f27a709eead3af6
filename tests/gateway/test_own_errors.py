"""What we answer ourselves: JSON for programs, a page for people, always dated and with the request's id."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser

import orjson
import pytest

from tests.gateway.running import DENIED, Gate, Receiver, values
from tests.heard import Heard
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]

BROWSER = b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Page(HTMLParser):
    """Its text, and what it would load."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.loads: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [(name, value) for name, value in attrs if name in ("src", "href", "action", "srcset", "style")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


async def asked(gate: Gate, *head: bytes, address: str = "127.0.0.1") -> tuple[bytes, bytes]:
    async with gate.raw(*head, b"\r\n", address=address) as client:
        answer = await client.head()
        return answer, await client.exactly(int(values(answer, b"content-length")[0]))


def check(answer: bytes, body: bytes, status: int, *, page: bool) -> str:
    """Its detail."""
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    (request_id,) = values(answer, b"x-request-id")
    (kind,) = values(answer, b"content-type")
    assert values(answer, b"vary") == [b"Accept"]
    if not page:
        assert kind == b"application/problem+json"
        fields = orjson.loads(body)
        assert (fields["status"], fields["request_id"]) == (status, request_id.decode())
        return str(fields["detail"])
    assert kind == b"text/html; charset=utf-8"
    seen = Page(body.decode())
    assert seen.loads == []
    assert "script" not in seen.tags
    assert not re.search(rb"url\(|@import|//", body)
    assert values(answer, b"content-security-policy")[0].startswith(b"default-src 'none'")
    assert f"Request {request_id.decode()}" in seen.text
    assert str(status) in " ".join(seen.text)
    return " ".join(seen.text)


def check_date(answer: bytes) -> None:
    (date,) = values(answer, b"date")
    assert abs(parsedate_to_datetime(date.decode()) - datetime.now(UTC)) < timedelta(seconds=60)


CASES = {
    "no route": (b"PATCH / HTTP/1.1\r\nHost: a\r\n", 404, "no route of policies.yaml matches"),
    "no host": (b"GET / HTTP/1.0\r\n", 400, "exactly one Host"),
    "no worker": (b"GET /info HTTP/1.1\r\nHost: a\r\n", 503, ""),
    "no signature": (b"POST /hooks/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", 401, ""),
    "reserved, nothing there": (b"GET /_sluice/nothing HTTP/1.1\r\nHost: a\r\n", 404, "there is nothing at this path"),
    "reserved, another method": (b"DELETE /_sluice/healthz HTTP/1.1\r\nHost: a\r\n", 405, "this path takes"),
    "reserved, unsigned": (b"POST /_sluice/workers HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", 401, ""),
}


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("case", CASES)
async def test_an_error_is_json_for_programs_and_a_page_for_people(gate: Gate, case: str, page: bool) -> None:
    head, status, detail = CASES[case]
    answer, body = await asked(gate, head, BROWSER if page else b"Accept: */*\r\n")
    assert detail in check(answer, body, status, page=page)


async def test_the_methods_that_a_reserved_path_takes_are_named(gate: Gate) -> None:
    answer, body = await asked(gate, b"DELETE /_sluice/healthz HTTP/1.1\r\nHost: a\r\n")
    assert sorted(values(answer, b"allow")[0].split(b", ")) == [b"GET", b"HEAD"]
    assert "GET" in check(answer, body, 405, page=False)


async def test_a_page_says_when_to_try_again_and_escapes_what_strangers_wrote(gate: Gate, laravel: Receiver) -> None:
    await asked(gate, b"GET /limited/x HTTP/1.1\r\nHost: a\r\n")
    answer, body = await asked(gate, b"GET /limited/x HTTP/1.1\r\nHost: a\r\n", BROWSER)
    assert "limit limited is used up" in check(answer, body, 429, page=True)
    assert f"Please try again in {values(answer, b'retry-after')[0].decode()} seconds." in body.decode()


@pytest.mark.our_server("the others write a Date of their own, where they are not told to leave it out as here")
@pytest.mark.parametrize("case", CASES)
async def test_an_error_is_dated(gate: Gate, case: str) -> None:
    check_date((await asked(gate, CASES[case][0]))[0])


@pytest.mark.our_server("the others read heads, and answer what they cannot read, themselves")
@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"a" * 70_000 + b"\r\n", 431),
        (b"GET / HTTP/3.0\r\nHost: a\r\n", 505),
    ],
)
async def test_so_is_what_the_server_refuses_before_the_edge(
    gate: Gate, heard: Heard, head: bytes, status: int, page: bool
) -> None:
    first, _, rest = head.partition(b"\r\n")
    answer, body = await asked(gate, first + b"\r\n", BROWSER if page else b"Accept: application/json\r\n", rest)
    check(answer, body, status, page=page)
    check_date(answer)
    assert values(answer, b"connection") == [b"close"]
    logged = [fields for message, fields in heard.lines if message == "request.refused"]
    assert [fields["request_id"] for fields in logged] == [values(answer, b"x-request-id")[0].decode()]


@pytest.mark.our_server("the others read bodies themselves")
async def test_a_body_that_cannot_be_read_is_answered_under_the_id_of_its_request(
    gate: Gate, laravel: Receiver, heard: Heard
) -> None:
    async def takes(call: Call) -> None:
        laravel.heads.append(await call.head())
        await call.reader.read()

    laravel.play = takes
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    async with gate.raw(head, BROWSER, b"\r\n") as client:
        await until(lambda: laravel.heads)
        client.send(b"no length\r\n")
        answer = await client.head()
        check(answer, await client.exactly(int(values(answer, b"content-length")[0])), 400, page=True)
    assert values(answer, b"x-request-id") == values(laravel.heads[0], b"x-request-id")


async def test_a_refused_websocket_is_told_as_any_request(gate: Gate) -> None:
    for address, status in ((DENIED, 403), ("127.0.0.1", 501)):
        answer, body = await asked(gate, b"GET /info HTTP/1.1\r\nHost: a\r\n", WEBSOCKET, address=address)
        check(answer, body, status, page=False)


async def test_an_address_that_is_denied_is_told_so_on_a_page(gate: Gate) -> None:
    answer, body = await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\n", BROWSER, address=DENIED)
    assert "this address is denied" in check(answer, body, 403, page=True)


async def test_what_laravel_answers_is_its_own(gate: Gate, laravel: Receiver) -> None:
    laravel.response = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown"
    answer, body = await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\n", BROWSER)
    assert body == b"down"
    assert values(answer, b"content-type") == []
    assert values(answer, b"vary") == []
