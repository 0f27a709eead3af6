"""An upstream with several members, from the client's side: real gateways, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluice.console.actions.traffic import counted
from tests.gateway.running import Gate, gateway, problem
from tests.resolving import Resolve, hanging
from tests.sluice.http.client.upstream import Call, Upstream
from tests.waiting import until

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
store: {{url: "{store}", promise: memory}}
clients: {{exempt: [here]}}
trust: {{lists: {{here: [127.0.0.1/32]}}}}
upstreams:
  laravel: {laravel}
routes:
  - {{path: /**, upstream: laravel}}
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%b"


class Member:
    """A server that answers its name, and can be stopped and started at its address."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.play: Callable[[Call, bytes], object] = self.answer
        self._upstream = Upstream(self._all)
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._upstream = Upstream(self._all)
        self._server = await asyncio.start_server(self._upstream.accept, "127.0.0.1", self.port, ssl=tls)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._upstream.stop()
            await self._server.wait_closed()
            self._server = None

    def answer(self, call: Call, head: bytes) -> None:
        call.say(OK % self.name.encode())

    def reset(self, call: Call, head: bytes) -> None:
        call.reset()

    def silent(self, call: Call, head: bytes) -> None:
        """No answer comes."""

    def bad_gateway(self, call: Call, head: bytes) -> None:
        call.say(b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nContent-Length: 3\r\n\r\nbad")

    def in_maintenance(self, call: Call, head: bytes) -> None:
        page = b"Be right back."
        fields = b"Retry-After: 60\r\nCache-Control: no-cache, private\r\nContent-Length: %d\r\n" % len(page)
        call.say(b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (fields, page))

    async def _all(self, call: Call) -> None:
        while True:
            head = await call.head()
            self.heads.append(head)
            if b"Transfer-Encoding: chunked" in head:
                self.bodies.append(await call.until(b"0\r\n\r\n"))
            elif length := [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]:
                self.bodies.append(await call.reader.readexactly(int(length[0].partition(b":")[2])))
            self.play(call, head)


@asynccontextmanager
async def members(free_port: Callable[[], int], names: str = "ab") -> AsyncIterator[list[Member]]:
    made = [Member(name, free_port()) for name in names]
    for member in made:
        await member.start()
    try:
        yield made
    finally:
        for member in made:
            await member.stop()


@pytest.fixture
async def pair(free_port: Callable[[], int]) -> AsyncIterator[tuple[Member, Member]]:
    async with members(free_port) as (a, b):
        yield a, b


def urls(*members: Member, more: str = "") -> str:
    return f"{{urls: [{', '.join(member.url for member in members)}], headers: 2s, connect: 1s{more}}}"


@asynccontextmanager
async def gate_to(folder: Path, store_url: str, upstream: str) -> AsyncIterator[Gate]:
    async with gateway(folder, store_url, upstream, text=POLICIES) as gate:
        yield gate


async def answers(gate: Gate, times: int, method: str = "GET") -> Counter[str]:
    """Who has answered, or with which status it was refused."""
    found: Counter[str] = Counter()
    for _ in range(times):
        answer = await gate.http.request(method, "/x")
        found[answer.text if answer.status_code == 200 else str(answer.status_code)] += 1
    return found


def members_of(gate: Gate) -> dict[str, bool]:
    """By address, whether `status` says that it is left out."""
    return {member.url: member.out for member in counted(gate.policies, time.time()).upstreams["laravel"].members}


async def test_members_share_the_requests(tmp_path: Path, store_url: str, pair: tuple[Member, Member]) -> None:
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        assert await answers(gate, 20) == {"a": 10, "b": 10}


async def test_the_member_with_fewer_requests_under_way_gets_the_next(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        a.play = a.silent
        slow = asyncio.create_task(gate.http.post("/slow"))
        await until(lambda: a.heads)
        assert await answers(gate, 10) == {"b": 10}
        assert problem(await slow) == (504, "laravel did not answer in time")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_that_nothing_was_sent_of_goes_on_at_once(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member], method: str
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        await a.stop()
        assert await answers(gate, 20, method) == {"b": 20}


async def test_an_upload_that_nothing_was_sent_of_goes_on_whole(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, b = pair

    async def body() -> AsyncIterator[bytes]:
        yield b"first "
        yield b"second"

    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        await a.stop()
        for _ in range(2):
            assert (await gate.http.post("/x", content=body())).text == "b"
    assert [b"first" in whole and b"second" in whole for whole in b.bodies] == [True, True]


async def test_what_is_safe_to_repeat_goes_on_after_a_reset_and_nothing_else(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        a.play = a.reset
        assert await answers(gate, 1, "POST") == {"502": 1}
        assert len(a.heads) == 1
        assert await answers(gate, 10) == {"b": 10}


async def test_a_request_goes_past_a_member_behind_whose_proxy_nothing_runs(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        a.play = a.bad_gateway
        assert await answers(gate, 10) == {"b": 10}
        await asyncio.sleep(1.1)  # then it is probed
        assert await answers(gate, 5) == {"b": 5}
        assert 2 <= len(a.heads) <= 3, "the first request, and a probe each second"


async def test_a_member_that_is_back_gets_requests_within_a_second_or_so(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        await a.stop()
        assert await answers(gate, 4) == {"b": 4}
        await a.start()

        async def answers_again() -> bool:
            return (await answers(gate, 2))["a"] > 0

        await until(answers_again)
        assert await answers(gate, 10) == {"a": 5, "b": 5}


async def test_a_member_that_hangs_is_left_out_and_its_probe_goes_on_to_another(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        a.play = a.silent
        assert await answers(gate, 1) == {"504": 1}
        assert await answers(gate, 5) == {"b": 5}
        await asyncio.sleep(1.1)  # then it is probed
        assert await answers(gate, 5) == {"b": 5}
        assert 2 <= len(a.heads) <= 3, "the first request, and a probe each second"


async def test_while_all_members_fail_they_are_asked_all_the_same(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        for member in pair:
            await member.stop()
        assert await answers(gate, 3) == {"502": 3}
        for member in pair:
            await member.start()
        assert "502" not in await answers(gate, 3)

        async def both_answer() -> bool:
            return await answers(gate, 4) == {"a": 2, "b": 2}

        await until(both_answer)


async def test_the_maintenance_page_of_all_members_is_passed_on(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    async with gate_to(tmp_path, store_url, urls(*pair, more=", fails: [503]")) as gate:
        for member in pair:
            member.play = member.in_maintenance
        found = [await gate.http.get("/x") for _ in range(10)]
    assert {answer.status_code for answer in found} == {503}
    assert {answer.text for answer in found} == {"Be right back."}


async def test_a_check_leaves_a_member_out_before_a_request_meets_it_and_brings_it_back(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, b = pair
    a.play = a.in_maintenance
    async with gate_to(tmp_path, store_url, urls(*pair, more=", health: {path: /up, every: 1s}")) as gate:
        await until(lambda: b.heads and len(a.heads) >= 2)
        assert await answers(gate, 10) == {"b": 10}
        assert {head.split(b" ")[1] for head in a.heads} == {b"/up"}
        a.play = a.answer

        async def answers_again() -> bool:
            return (await answers(gate, 2))["a"] > 0

        await until(answers_again)


async def test_a_check_that_fails_everywhere_stops_nobody(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    def without_the_path(member: Member) -> Callable[[Call, bytes], None]:
        def play(call: Call, head: bytes) -> None:
            if head.startswith(b"GET /wrong "):
                call.say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            else:
                member.answer(call, head)

        return play

    for member in pair:
        member.play = without_the_path(member)
    async with gate_to(tmp_path, store_url, urls(*pair, more=", health: {path: /wrong, every: 1s}")) as gate:
        await until(lambda: all(member.heads for member in pair))

        await until(lambda: all(members_of(gate).values()))
        assert await answers(gate, 10) == {"a": 5, "b": 5}


async def test_an_upstream_with_one_address_can_be_checked_too(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, f"{{url: {a.url}, health: {{path: /up, every: 1s}}}}") as gate:
        await until(lambda: a.heads)
        assert await answers(gate, 3) == {"a": 3}


async def test_status_says_which_member_is_left_out_and_which_is_back(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, b = pair
    async with gate_to(tmp_path, store_url, urls(*pair)) as gate:
        await answers(gate, 2)
        assert members_of(gate) == {a.url: False, b.url: False}
        await a.stop()
        await answers(gate, 2)
        assert members_of(gate) == {a.url: True, b.url: False}
        await a.start()

        async def is_back() -> bool:
            await answers(gate, 1)
            return not members_of(gate)[a.url]

        await until(is_back)


async def test_members_of_an_edit_take_over_at_once(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, b = pair
    async with gate_to(tmp_path, store_url, urls(a, b)) as gate:
        assert await answers(gate, 4) == {"a": 2, "b": 2}
        file = tmp_path / "policies.yaml"
        text = file.read_text()
        new = tmp_path / "new.yaml"
        new.write_text(text.replace(urls(a, b), f"{{url: {b.url}}}"))
        new.replace(file)

        async def only_b() -> bool:
            return await answers(gate, 4) == {"b": 4}

        await until(only_b)


# --- one address


async def test_a_laravel_in_maintenance_is_passed_on_to_every_visitor(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    a.play = a.in_maintenance
    async with gate_to(tmp_path, store_url, f"{{url: {a.url}}}") as gate:
        found = [await gate.http.get("/x") for _ in range(60)]
        assert {answer.text for answer in found} == {"Be right back."}
        assert {answer.headers["retry-after"] for answer in found} == {"60"}
        a.play = a.answer
        assert await answers(gate, 1) == {"a": 1}


async def test_answers_that_cannot_be_passed_on_close_the_upstream_to_nobody(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair

    def play(call: Call, head: bytes) -> None:
        if head.startswith(b"GET /broken "):
            call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
        else:
            a.answer(call, head)

    a.play = play
    async with gate_to(tmp_path, store_url, f"{{url: {a.url}}}") as gate:
        for _ in range(30):
            assert (await gate.http.get("/broken")).status_code == 502
        many = await asyncio.gather(*(gate.http.get("/x") for _ in range(10)))
        assert [answer.text for answer in many] == ["a"] * 10


async def test_statuses_that_the_policies_name_open_the_circuit(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    a.play = a.in_maintenance
    async with gate_to(tmp_path, store_url, f"{{url: {a.url}, fails: [503]}}") as gate:
        for _ in range(20):
            assert (await gate.http.get("/x")).text == "Be right back."
        many = await asyncio.gather(*(gate.http.get("/x") for _ in range(10)))
        texts = Counter(answer.text == "Be right back." for answer in many)
        assert texts == {True: 1, False: 9}, "a probe, and who waited for its outcome in vain"


async def test_after_an_outage_nobody_is_refused_by_a_healthy_upstream(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, f"{{url: {a.url}}}") as gate:
        await a.stop()
        for _ in range(3):
            await asyncio.gather(*(gate.http.get("/x") for _ in range(20)))
        await a.start()
        began = time.monotonic()
        found = await asyncio.gather(*(gate.http.get("/x") for _ in range(20)))
        assert [answer.text for answer in found] == ["a"] * 20
        assert time.monotonic() - began < 4


async def test_so_many_connections_are_opened_and_a_request_waits_so_long_for_one(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    a.play = a.silent
    async with gate_to(tmp_path, store_url, f"{{url: {a.url}, connections: 2, wait: 100ms, headers: 2s}}") as gate:
        under_way = [asyncio.create_task(gate.http.get("/slow")) for _ in range(2)]
        await until(lambda: len(a.heads) == 2)
        assert problem(await gate.http.get("/x")) == (503, "all connections to laravel are busy")
        await asyncio.gather(*under_way)


async def test_an_unused_connection_is_kept_so_long(
    tmp_path: Path, store_url: str, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    async with gate_to(tmp_path, store_url, f"{{url: {a.url}, keep: 1500ms}}") as gate:
        await answers(gate, 2)
        assert len(a._upstream.calls) == 1
        await asyncio.sleep(1.6)  # the time itself is what is tested
        await answers(gate, 1)
        assert len(a._upstream.calls) == 2


async def test_https_is_trusted_by_the_authorities_that_the_policies_name(
    tmp_path: Path, store_url: str, certificate: Path, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    await a.stop()
    await a.start(tls)
    url = a.url.replace("http:", "https:")
    async with gate_to(tmp_path, store_url, f'{{url: "{url}", ca: "file:{certificate}.crt"}}') as gate:
        assert await answers(gate, 2) == {"a": 2}
    async with gate_to(tmp_path, store_url, f'{{url: "{url}"}}') as gate:
        assert problem(await gate.http.get("/x")) == (502, "laravel cannot be reached")


async def test_where_the_first_address_of_a_name_hangs_the_next_is_asked(
    tmp_path: Path, store_url: str, resolve: Resolve, pair: tuple[Member, Member]
) -> None:
    a, _ = pair
    with hanging("127.0.0.3", a.port):
        async with gate_to(tmp_path, store_url, f"{{url: http://app.test:{a.port}}}") as gate:
            resolve("127.0.0.3", "127.0.0.1")
            assert await answers(gate, 3) == {"a": 3}


async def test_an_upstream_on_a_unix_socket_is_asked_as_the_client_asks(
    tmp_path: Path, short_folder: Path, store_url: str
) -> None:
    path, heads = short_folder / "s", []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(OK % b"u")
        writer.close()

    server = await asyncio.start_unix_server(accept, str(path))
    async with gate_to(tmp_path, store_url, f'{{url: "unix:{path}"}}') as gate:
        assert await answers(gate, 2) == {"u": 2}
    server.close()
    assert f"Host: 127.0.0.1:{gate.port}".encode() in heads[0]
