"""Addresses that must not be connected to. `localhost` plays the name that leads to one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.http.addresses import kind_of
from sluice.http.client import AddressRefused, ConnectFailed, Origin, Pool
from sluice.http.client.connect import Refuse
from tests.sluice.http.client.upstream import OK, saying, upstream

pytestmark = pytest.mark.anyio


async def ask(origin: Origin, refuse: Refuse) -> bytes:
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
