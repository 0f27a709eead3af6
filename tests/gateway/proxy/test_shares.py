"""How many of an upstream's connections one client address may use, and what becomes of it beyond that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.client_ip import Client
from gateway.policies import Clients, Policies, Trust
from gateway.problems import Refusal
from gateway.proxy.shares import ShareRule, Shares
from sluice.observe import metrics
from tests.gateway.making import a_client, a_list
from tests.gateway.running import POLICIES, PROXY, SECRET, Gate, Receiver, gateway
from tests.gateway.sharing import LISTED, ONE, OTHER, Holding, all_answered, asking, refused_one_too_many, status_of
from tests.heard import Heard
from tests.sluice.http.client.upstream import OK, Call
from tests.waiting import until

pytestmark = pytest.mark.anyio

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
MOST = 5
"""Two hundredths of 256 connections."""
REFUSED = (
    "has its share of the connections to laravel, 5 of 256 (clients.share); if it is a proxy or an office of yours, "
    "name it in trust.proxies, or in a list of clients.exempt"
)
SECTION = """
clients: {{share: 2%, exempt: [listed], send: 3s}}
trust:
  lists: {{listed: [127.0.0.7/32]}}"""


@pytest.fixture
async def gate(
    tmp_path: Path, store_url: str, laravel: Receiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gate]:
    monkeypatch.setenv("SECRET", SECRET)
    text = POLICIES.replace("\ntrust:", SECTION, 1)
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        yield gate


def counted(name: str, **labels: str) -> float:
    return metrics.registry().get_sample_value(name, labels) or 0.0


def reasons(heard: Heard) -> list[object]:
    """Of the access log."""
    return [fields["why"] for message, fields in heard.lines if message == "request"]


async def test_what_is_over_the_share_of_an_address_is_503_and_others_get_through(
    gate: Gate, laravel: Receiver, heard: Heard
) -> None:
    holding = Holding()
    laravel.play = holding.play
    before = counted("sluice_client_shares_refused_total", upstream="laravel")
    async with asking(gate, ONE, MOST, GET) as held:
        await until(lambda: holding.held == MOST)
        await refused_one_too_many(gate, ONE, GET)
        async with asking(gate, OTHER, MOST, GET) as others:
            await until(lambda: holding.held == 2 * MOST)
            holding.lets_go.set()
            await all_answered(held + others)
        assert await status_of(gate, ONE, GET) == b"200", "what was answered gives its place back"
    lines = [fields for message, fields in heard.lines if message == "request" and fields["status"] == 503]
    assert [fields["why"] for fields in lines] == [f"{ONE} {REFUSED}"]
    assert counted("sluice_client_shares_refused_total", upstream="laravel") == before + 1
    assert "upstream.circuit" not in " ".join(heard.messages())


async def test_slow_readers_keep_nobody_out_and_are_cut(gate: Gate, laravel: Receiver, heard: Heard) -> None:
    size, piece = 64 * 2**20, bytes(2**18)  # at once it would take the loop for so long that others are late

    async def large(call: Call) -> None:
        head = await call.head()
        if not head.startswith(b"GET /large"):
            call.say(OK)
            return
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            call.say(piece)
            await call.writer.drain()

    laravel.play = large
    ask = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
    before = counted("sluice_clients_cut_total", key="send")
    async with asking(gate, ONE, MOST, ask) as slow:
        for client in slow:
            client.take_nothing()
        await until(lambda: len(laravel.upstream.calls) == MOST)
        await asyncio.sleep(0.1)
        assert await status_of(gate, ONE, GET) == b"503"
        assert await status_of(gate, OTHER, GET) == b"200"
        await until(lambda: heard.messages().count("client.cut") == MOST)
        assert await status_of(gate, ONE, GET) == b"200"
    why = "the client took nothing of its answer for 3 seconds (clients.send)"
    await until(
        lambda: sum(fields.get("why") == why for message, fields in heard.lines if message == "request") == MOST
    )
    cut = [fields for message, fields in heard.lines if message == "client.cut"]
    assert [(fields["client"], fields["why"]) for fields in cut] == [(ONE, why)] * MOST
    assert "upstream.broke_off" not in heard.messages(), "it is the client that is slow"
    assert counted("sluice_clients_cut_total", key="send") == before + MOST


async def test_lists_in_exempt_and_proxies_have_no_share_and_clients_behind_a_proxy_one_each(
    gate: Gate, laravel: Receiver
) -> None:
    holding = Holding()
    laravel.play = holding.play
    behind = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.%d\r\n\r\n"
    async with (
        asking(gate, LISTED, MOST + 1, GET),
        asking(gate, PROXY, MOST + 1, GET),
        asking(gate, PROXY, MOST, behind % 1),
        asking(gate, PROXY, MOST, behind % 2),
    ):
        await until(lambda: holding.held == 4 * MOST + 2)
        assert await status_of(gate, PROXY, behind % 1) == b"503"
        holding.lets_go.set()


async def test_an_edit_of_share_and_exempt_counts_at_once(gate: Gate, laravel: Receiver, heard: Heard) -> None:
    holding = Holding()
    laravel.play = holding.play
    async with asking(gate, ONE, MOST, GET):
        await until(lambda: holding.held == MOST)
        assert await status_of(gate, ONE, GET) == b"503"
        file = gate.policies.source
        edited = file.with_suffix(".new")
        edited.write_text(file.read_text().replace("share: 2%", "share: 4%"))
        edited.replace(file)
        await until(lambda: "policies.loaded" in heard.messages())
        async with asking(gate, ONE, MOST, GET):
            await until(lambda: holding.held == 2 * MOST)
            assert await status_of(gate, ONE, GET) == b"503"
            holding.lets_go.set()


def test_an_ipv6_network_is_one_client_and_whoever_has_nothing_under_way_gets_through(tmp_path: Path) -> None:
    nobody = a_list()
    trust = Trust(nobody, (), {}, nobody)
    rule = ShareRule(Policies(tmp_path, "", trust=trust, clients=Clients(share=0.001)))
    shares = Shares("laravel", 256, rule)
    one, neighbour = a_client("2001:db8:1:2::1"), a_client("2001:db8:1:2::ffff")
    stranger = a_client("2001:db8:1:3::1")
    shares.take(one)
    assert refusal_of(shares, neighbour).status == 503
    shares.take(stranger)
    shares.give_back(one)
    shares.take(neighbour)
    assert refusal_of(shares, one).retry_after == b"1"


def refusal_of(shares: Shares, client: Client) -> Refusal:
    with pytest.raises(Refusal) as refused:
        shares.take(client)
    return refused.value
