"""One line for each request: what is in it, in which form, and by which id it is found elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sluice.http.client.connection import address_text
from tests.gateway.running import (
    POLICIES,
    PROXY,
    SECRET,
    Gate,
    Receiver,
    gateway,
    receiver,
    values,
)
from tests.heard import Heard
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = pytest.mark.anyio

OURS = re.compile(rb"[0-9a-f]{24}")
COMBINED = re.compile(
    rb"(?P<client>\S+) - - \[\d\d/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}(?::\d\d){3} \+0000\] "
    rb'"(?P<request>(?:[^"\\]|\\x[0-9A-F]{2})*)" (?P<status>\d{3}) (?P<bytes>\d+) '
    rb'"(?P<referer>(?:[^"\\]|\\x[0-9A-F]{2})*)" "(?P<agent>(?:[^"\\]|\\x[0-9A-F]{2})*)"'
)
"""What Apache's `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"` writes, with the escapes of nginx."""


async def asked(gate: Gate, head: bytes, *more: bytes, address: str = "127.0.0.1") -> bytes:
    """The head of the answer. `head`: without the empty line."""
    async with gate.raw(head, b"\r\n", *more, address=address) as client:
        return await client.head()


def rows(heard: Heard) -> list[dict[str, Any]]:
    return [fields for message, fields in heard.lines if message == "request"]


async def row_of(heard: Heard) -> dict[str, Any]:
    await until(lambda: rows(heard), what="a line")
    (row,) = rows(heard)
    return row


async def test_a_line_tells_all_that_an_access_log_is_asked_for(gate: Gate, laravel: Receiver, heard: Heard) -> None:
    laravel.response = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello there"
    head = (
        b"POST /orders/17?token=secret HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n"
        b"User-Agent: Mozilla/5.0 (X11)\r\nReferer: https://shop.example/cart?token=secret\r\n"
    )
    answer = await asked(gate, head, b"12345")
    row = await row_of(heard)
    assert row.pop("ms") >= row.pop("upstream_ms") > 0
    assert row == {
        "method": "POST",
        "path": "/orders/17",
        "route": "/**",
        "status": 200,
        "client": "127.0.0.1",
        "request_id": values(answer, b"x-request-id")[0].decode(),
        "bytes_in": 5,
        "bytes_out": 11,
        "host": "shop.example",
        "user_agent": "Mozilla/5.0 (X11)",
        "referer": "https://shop.example/cart",
        "upstream": laravel.url.removeprefix("http://"),
    }


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 200000\r\n", b"x" * 200_000),
        (b"Transfer-Encoding: chunked\r\n", b"30d40\r\n" + b"x" * 200_000 + b"\r\n0\r\n\r\n"),
    ],
)
async def test_bytes_are_those_of_the_bodies_however_they_come(
    gate: Gate, laravel: Receiver, heard: Heard, framing: bytes, body: bytes
) -> None:
    async def drain(call: Call) -> None:
        await call.head()
        got = b""
        while got.count(b"x") < 200_000:
            got += await call.reader.read(65536)
        call.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + b"y" * 100_000 + b"\r\n0\r\n\r\n")

    laravel.play = drain
    async with gate.raw(b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", framing, b"\r\n", body) as client:
        await client.rest()
    row = await row_of(heard)
    assert (row["bytes_in"], row["bytes_out"]) == (200_000, 100_000)


async def test_an_answer_without_a_body_has_no_bytes(gate: Gate, laravel: Receiver, heard: Heard) -> None:
    laravel.response = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    await asked(gate, b"HEAD / HTTP/1.1\r\nHost: a\r\n")
    assert (await row_of(heard))["bytes_out"] == 0


async def test_of_a_request_that_reaches_no_upstream_none_is_named(gate: Gate, heard: Heard) -> None:
    answer = await asked(gate, b"PATCH / HTTP/1.1\r\nHost: a\r\n")
    row = await row_of(heard)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert not {"upstream", "upstream_ms", "user_agent", "referer"} & row.keys()
    assert row["why"] == "no route of policies.yaml matches"


# --- the id


async def test_a_request_gets_an_id_that_laravel_and_the_client_are_told(gate: Gate, laravel: Receiver) -> None:
    ids = []
    for _ in range(3):
        answer = await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: the-clients-own\r\n")
        (one,) = values(answer, b"x-request-id")
        assert values(laravel.heads[-1], b"x-request-id") == [one]
        assert OURS.fullmatch(one)
        ids.append(one)
    assert len(set(ids)) == 3
    assert len({one[:16] for one in ids}) == 1, "the first half is of the process"


@pytest.mark.parametrize(
    "given", [b"7f9c", b"Root=1-67891233-abcdef012345678912345678", b"c1b9c7a0-7e57-4bd8-9d53-7f3c39d0b2a5", b"a" * 128]
)
async def test_the_id_of_a_trusted_proxy_is_kept(gate: Gate, laravel: Receiver, heard: Heard, given: bytes) -> None:
    answer = await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\nX-REQUEST-ID: " + given + b"\r\n", address=PROXY)
    assert values(answer, b"x-request-id") == values(laravel.heads[0], b"x-request-id") == [given]
    assert (await row_of(heard))["request_id"] == given.decode()


@pytest.mark.parametrize("lines", [b"a" * 129, b"a b", b'a"b', b"<b>", b"", b"\xff", b"a\r\nX-Request-Id: b"])
async def test_an_id_that_is_not_sound_is_replaced_whoever_gives_it(
    gate: Gate, laravel: Receiver, lines: bytes
) -> None:
    answer = await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + lines + b"\r\n", address=PROXY)
    (one,) = values(answer, b"x-request-id")
    assert OURS.fullmatch(one)
    assert values(laravel.heads[0], b"x-request-id") == [one]


async def test_what_an_upstream_calls_the_request_does_not_stand_beside_it(gate: Gate, laravel: Receiver) -> None:
    laravel.response = b"HTTP/1.1 200 OK\r\nX-Request-Id: its-own\r\nContent-Length: 0\r\n\r\n"
    (one,) = values(await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\n"), b"x-request-id")
    assert OURS.fullmatch(one)


async def test_an_event_is_found_by_the_id_of_its_request_and_the_other_way_round(gate: Gate, heard: Heard) -> None:
    answer = await gate.post_event()
    row = await row_of(heard)
    assert (row["request_id"], row["id"]) == (answer.headers["x-request-id"], answer.json()["id"])
    assert row["bytes_in"] == len(answer.request.content)


@pytest.mark.parametrize("path", ["/_sluice/healthz", "/_sluice/nothing", "/_sluice/workers/register"])
async def test_answers_of_the_reserved_paths_have_an_id_too(gate: Gate, path: str) -> None:
    answer = await gate.http.get(path)
    assert OURS.fullmatch(answer.headers["x-request-id"].encode())
    if answer.status_code >= 400:
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


# --- Apache's combined format


@asynccontextmanager
async def combined(folder: Path, store_url: str) -> AsyncIterator[tuple[Gate, Receiver]]:
    async with receiver() as laravel:
        text = POLICIES + "log: {{requests: combined}}\n"
        async with gateway(folder, store_url, laravel.url, text=text) as gate:
            yield gate, laravel


async def test_combined_lines_are_read_by_what_reads_apaches(tmp_path: Path, store_url: str, heard: Heard) -> None:
    hostile = b'x" 200 0 "-" "\\ \xfc\x9b'
    async with combined(tmp_path, store_url) as (gate, laravel):
        laravel.response = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello there"
        more = b"Referer: https://shop.example/?q=1\r\nUser-Agent: " + hostile + b"\r\n"
        await asked(gate, b"GET /a%20b?token=secret HTTP/1.1\r\nHost: a\r\n" + more)
        await asked(gate, b"GET / HTTP/1.0\r\nHost: a\r\n")
        await until(lambda: len(heard.texts) == 2)
    first, second = (COMBINED.fullmatch(line) for line in heard.texts)
    assert first is not None
    assert second is not None
    assert first.groupdict() == {
        "client": b"127.0.0.1",
        "request": b"GET /a%20b HTTP/1.1",
        "status": b"200",
        "bytes": b"11",
        "referer": b"https://shop.example/",
        "agent": rb"x\x22 200 0 \x22-\x22 \x22\x5C \xFC\x9B",
    }
    assert second.group("request", "referer", "agent") == (b"GET / HTTP/1.0", b"-", b"-")
    assert rows(heard) == [], "not in both forms"


async def test_no_field_of_a_combined_line_is_longer_than_its_cap(tmp_path: Path, store_url: str, heard: Heard) -> None:
    async with combined(tmp_path, store_url) as (gate, _):
        long = b"\xff" * 15_000
        await asked(
            gate,
            b"GET /"
            + b"a" * 15_000
            + b" HTTP/1.1\r\nHost: a\r\nReferer: "
            + long
            + b"\r\nUser-Agent: "
            + long
            + b"\r\n",
        )
        await until(lambda: heard.texts)
    (line,) = heard.texts
    assert COMBINED.fullmatch(line)
    assert len(line) < 10_000


async def test_the_form_of_the_log_changes_with_an_edit(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\n")
        await row_of(heard)
        file = tmp_path / "policies.yaml"
        file.write_text(file.read_text() + "log: {requests: combined}\n")
        await until(lambda: "policies.loaded" in heard.messages(), what="the edit to be live")
        await asked(gate, b"GET / HTTP/1.1\r\nHost: a\r\n")
        await until(lambda: heard.texts)
    assert len(rows(heard)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (("192.0.2.7", 8000), "192.0.2.7:8000"),
        (("2001:db8::7", 8000, 0, 0), "[2001:db8::7]:8000"),
        ("/run/php.sock", "unix:/run/php.sock"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_address_of_an_upstream_is_written_as_everywhere(name: object, text: str) -> None:
    assert address_text(name) == text
