"""Which address of a name is connected to, and which must not be. `localhost` plays the name that leads to one; names
with several addresses are resolved by the tests themselves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.http.addresses import kind_of
from sluice.http.client import AddressRefused, ConnectFailed, ConnectTimeout, Origin, Pool
from sluice.http.client.connect import NEXT_AFTER, Refuse
from tests.resolving import Resolve, hanging
from tests.sluice.http.client.upstream import OK, Call, saying, upstream

pytestmark = pytest.mark.anyio


async def ask(origin: Origin, refuse: Refuse | None) -> bytes:
    pool = Pool(origin, connect=2, refuse=refuse)
    try:
        with await pool.acquire() as connection:
            connection.send_head(b"GET", b"/", [])
            return await (await connection.response(2)).read(100, 2)
    finally:
        await pool.close()
        assert pool.open == 0


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to() -> None:
    async with upstream(saying(OK)) as up:
        with pytest.raises(AddressRefused) as caught:
            await ask(replace(up.origin, host="localhost"), kind_of)
        assert str(caught.value).endswith("is not a public address (loopback)")
        assert up.calls == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
async def test_other_ways_to_write_an_address_are_judged_by_what_they_lead_to(host: str) -> None:
    async with upstream(saying(OK)) as up:
        with pytest.raises((AddressRefused, ConnectFailed)):
            await ask(replace(up.origin, host=host), kind_of)
        assert up.calls == []


async def test_what_was_judged_is_what_is_connected_to() -> None:
    judged: list[str] = []

    def only_ipv4(address: str) -> str | None:
        judged.append(address)
        return "not meant" if ":" in address else None

    async with upstream(saying(OK)) as up:
        assert await ask(replace(up.origin, host="localhost"), only_ipv4) == b"ok"
        assert "127.0.0.1" in judged
        assert len(up.calls) == 1


async def test_every_new_connection_is_judged_anew() -> None:
    kinds: list[str | None] = [None, "moved"]
    async with upstream(saying(OK)) as up:
        pool = Pool(up.origin, connect=2, refuse=lambda _: kinds.pop(0))
        first = await pool.acquire()
        first.abort()
        with pytest.raises(AddressRefused):
            await pool.acquire()
        await pool.close()


async def test_a_name_without_any_address_is_connect_failed() -> None:
    with pytest.raises(ConnectFailed):
        await ask(Origin("http", "no-such-host.invalid", 80), kind_of)


async def test_an_address_that_does_not_answer_is_connect_failed_and_not_refused() -> None:
    async with upstream(saying(OK)) as up:
        gone = up.origin
    with pytest.raises(ConnectFailed, match="refused"):
        await ask(gone, lambda _: None)


# --- a name with several addresses


async def test_where_the_first_address_hangs_the_next_is_tried_beside_it(resolve: Resolve) -> None:
    async with upstream(saying(OK), host="127.0.0.2") as up:
        with hanging("127.0.0.3", up.origin.port):
            resolve("127.0.0.3", "127.0.0.2")
            began = time.monotonic()
            assert await ask(replace(up.origin, host="app.test"), None) == b"ok"
            assert NEXT_AFTER <= time.monotonic() - began < 1.9


async def test_where_the_first_address_refuses_the_next_is_tried_at_once(resolve: Resolve) -> None:
    async with upstream(saying(OK), host="127.0.0.2") as up:
        resolve("127.0.0.3", "127.0.0.4", "127.0.0.2")
        assert await ask(replace(up.origin, host="app.test"), None) == b"ok"


async def test_the_families_take_turns(resolve: Resolve) -> None:
    """With eight tried at most, a dead family of ten does not hide the other one."""
    async with upstream(saying(OK), host="127.0.0.2") as up:
        resolve(*(f"2001:db8::{number}" for number in range(1, 11)), "127.0.0.2")
        assert await ask(replace(up.origin, host="app.test"), None) == b"ok"


async def test_where_all_addresses_hang_it_is_a_timeout_and_nothing_is_left_open(resolve: Resolve) -> None:
    async with upstream(saying(OK)) as up:
        with hanging("127.0.0.3", up.origin.port), hanging("127.0.0.4", up.origin.port):
            resolve("127.0.0.3", "127.0.0.4")
            pool = Pool(replace(up.origin, host="app.test"), connect=0.6)
            with pytest.raises(ConnectTimeout):
                await pool.acquire()
            await pool.close()
            assert pool.open == 0


async def test_where_all_addresses_refuse_the_connection_has_failed(resolve: Resolve) -> None:
    async with upstream(saying(OK)) as up:
        resolve("127.0.0.3", "127.0.0.4")
        with pytest.raises(ConnectFailed, match="refused"):
            await ask(replace(up.origin, host="app.test"), None)


async def test_only_addresses_that_may_be_connected_to_are_tried(resolve: Resolve) -> None:
    def not_the_third(address: str) -> str | None:
        return "private" if address == "127.0.0.3" else None

    async with upstream(saying(OK), host="127.0.0.3") as wrong:
        resolve("127.0.0.3", "127.0.0.4", "127.0.0.5")
        with pytest.raises(ConnectFailed):
            await ask(replace(wrong.origin, host="app.test"), not_the_third)
        assert wrong.calls == []


async def test_a_change_of_the_addresses_is_seen_while_traffic_keeps_a_connection(resolve: Resolve) -> None:
    async with upstream(saying(OK), host="127.0.0.2") as before:
        pool = Pool(replace(before.origin, host="app.test"), connect=2, age=0.2)
        resolve("127.0.0.2")

        async def use() -> None:
            with await pool.acquire() as connection:
                connection.send_head(b"GET", b"/", [])
                assert await (await connection.response(2)).read(100, 2) == b"ok"

        await use()
        async with at("127.0.0.3", before.origin.port) as calls:
            resolve("127.0.0.3")
            deadline = time.monotonic() + 10
            while not calls and time.monotonic() < deadline:
                await use()
            assert calls
            asked = len(before.calls)
            for _ in range(5):
                await use()
            assert len(before.calls) == asked
        await pool.close()


@contextlib.asynccontextmanager
async def at(address: str, port: int) -> Any:
    """The same upstream at another address; the calls it has had."""
    calls: list[Call] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = Call(len(calls) + 1, reader, writer)
        calls.append(call)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await call.head()
                call.say(OK)
        writer.close()

    server = await asyncio.start_server(accept, address, port)
    try:
        yield calls
    finally:
        server.close()


# --- unix sockets


async def test_http_is_spoken_over_a_unix_socket(short_folder: Path) -> None:
    path, heads = short_folder / "s", []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(accept, str(path))
    origin = Origin.of(f"unix:{path}")
    assert (str(origin), origin.authority) == (f"unix:{path}", b"localhost")
    assert await ask(origin, None) == b"ok"
    server.close()
    assert heads == [b"GET / HTTP/1.1\r\n\r\n"]
    path.unlink(missing_ok=True)
    with pytest.raises(ConnectFailed, match="no such file"):
        await ask(origin, None)
