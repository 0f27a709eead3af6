"""Connections: opened, reused, waited for, given up; and the exchange of the sender."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import ssl
from pathlib import Path

import pytest

from sluice.http.client import (
    BadHead,
    ConnectFailed,
    Connection,
    ConnectTimeout,
    HeadTimeout,
    IdleTimeout,
    Origin,
    Pool,
    PoolExhausted,
    Response,
    UpstreamReset,
    base_path,
    exchange,
)
from tests.sluice.http.client.upstream import OK, Call, Play, pool_to, saying, upstream
from tests.waiting import until


async def use(connection: Connection) -> bytes:
    connection.send_head(b"GET", b"/", [])
    return await (await connection.response(2)).read(100, 2)


async def post(pool: Pool, *, timeout: float = 2.0, most: int = 100) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    return await exchange(pool, b"POST", b"/hook", [(b"Host", b"a")], b"{}", timeout=timeout, most=most)


@pytest.mark.parametrize(
    ("url", "origin", "base", "authority"),
    [
        ("http://127.0.0.1:8000/base/", Origin("http", "127.0.0.1", 8000), b"/base", b"127.0.0.1:8000"),
        ("https://Shop.example", Origin("https", "shop.example", 443), b"", b"shop.example"),
        ("http://[::1]:81/", Origin("http", "::1", 81), b"", b"[::1]:81"),
        ("http://bücher.example", Origin("http", "bücher.example", 80), b"", b"xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_read_from_a_url(url: str, origin: Origin, base: bytes, authority: bytes) -> None:
    assert Origin.of(url) == origin
    assert base_path(url) == base
    assert origin.authority == authority


@pytest.mark.parametrize("url", ["ftp://a", "http://", "a:80", "http://u:p@a", "http://a:0", "http://a:99999"])
def test_what_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Origin.of(url)
    assert "u:p" not in str(caught.value)


@pytest.mark.anyio
async def test_a_connection_is_reused_last_in_first_out() -> None:
    async def play(call: Call) -> None:
        while True:
            await call.head()
            call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % call.number)

    async with upstream(play) as up, pool_to(up.origin) as pool:
        one, two = await pool.acquire(), await pool.acquire()
        assert not one.reused
        used = [await use(one), await use(two)]
        assert sorted(used) == [b"1", b"2"]
        for _ in range(3):
            three = await pool.acquire()
            assert three.reused
            assert await use(three) == used[-1]
        assert (pool.open, pool.idle, len(up.calls)) == (2, 2, 2)


@pytest.mark.anyio
async def test_a_fresh_connection_is_never_a_used_one() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, limit=1) as pool:
        await use(await pool.acquire())
        connection = await pool.acquire(fresh=True)
        assert not connection.reused
        assert await use(connection) == b"ok"
        assert len(up.calls) == 2
        assert pool.open == 1


@pytest.mark.anyio
async def test_an_idle_connection_is_dropped_after_its_time() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, idle=0.02) as pool:
        await use(await pool.acquire())
        await asyncio.sleep(0.03)  # the time itself is what is tested
        connection = await pool.acquire()
        assert not connection.reused
        await use(connection)
        await until(lambda: pool.open == 1)


@pytest.mark.anyio
async def test_a_connection_is_not_used_after_its_age_however_busy_it_is() -> None:
    async with upstream(saying(OK)) as up:
        pool = Pool(up.origin, connect=2, age=0.2)
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 0.5:
            await use(await pool.acquire())
        await pool.close()
        assert 2 <= len(up.calls) < 10
        assert pool.open == 0


@pytest.mark.anyio
async def test_that_we_have_no_file_left_for_a_connection_is_not_the_upstreams_failure() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin) as pool:
        first_free = os.dup(0)
        os.close(first_free)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        try:
            with pytest.raises(PoolExhausted, match="too many open files"):
                await pool.acquire()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await use(await pool.acquire()) == b"ok"


@pytest.mark.anyio
async def test_whoever_waits_for_a_connection_that_is_too_old_gets_a_new_one() -> None:
    async with upstream(saying(OK)) as up:
        pool = Pool(up.origin, connect=2, limit=1, age=0.05)
        held = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await until(lambda: pool.waiting == 1)
        await asyncio.sleep(0.06)  # the age itself is what is tested
        await use(held)
        fresh = await waiting
        assert not fresh.reused
        await use(fresh)
        await pool.close()


@pytest.mark.anyio
async def test_an_idle_connection_that_the_upstream_closes_leaves_the_pool() -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(OK)

    async with upstream(play) as up, pool_to(up.origin) as pool:
        await use(await pool.acquire())
        await until(lambda: pool.open == 0)
        assert pool.idle == 0


@pytest.mark.anyio
async def test_a_byte_on_an_idle_connection_closes_it() -> None:
    go = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.say(OK)
        await go.wait()
        call.say(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await call.gone()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        await use(await pool.acquire())
        assert pool.idle == 1
        go.set()
        await until(lambda: pool.open == 0)
        assert pool.idle == 0


@pytest.mark.anyio
async def test_a_byte_before_the_request_is_not_taken_for_its_answer() -> None:
    async def play(call: Call) -> None:
        call.say(OK)
        await call.gone()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        await until(lambda: pool.open == 0)
        with pytest.raises(UpstreamReset) as caught:
            connection.send_head(b"GET", b"/", [])
        assert not caught.value.response_started


@pytest.mark.anyio
async def test_no_more_than_the_limit_are_open_and_the_wait_is_bounded() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, limit=2, wait=0.05) as pool:
        first, second = await pool.acquire(), await pool.acquire()
        with pytest.raises(PoolExhausted):
            await pool.acquire()
        assert pool.waiting == 0
        await use(first)
        assert (await pool.acquire()).reused
        with pytest.raises(PoolExhausted):
            await pool.acquire()
        second.abort()
        assert not (await pool.acquire()).reused
        assert len(up.calls) <= 3


@pytest.mark.anyio
async def test_those_who_wait_are_served_in_order_each_with_the_next_free_connection() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, limit=1) as pool:
        served: list[int] = []

        async def wait(number: int) -> None:
            with await pool.acquire() as connection:
                served.append(number)
                if number == 2:
                    return  # cut: the next one gets the permit instead
                await use(connection)

        held = await pool.acquire()
        tasks = [asyncio.create_task(wait(number)) for number in range(5)]
        await until(lambda: pool.waiting == 5)
        await use(held)
        await asyncio.gather(*tasks)
        assert served == [0, 1, 2, 3, 4]
        assert len(up.calls) == 2


@pytest.mark.anyio
async def test_one_who_wants_a_fresh_connection_gets_the_permit_of_the_next_freed_one() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, limit=1) as pool:
        held = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire(fresh=True))
        await until(lambda: pool.waiting == 1)
        await use(held)
        assert not (await waiting).reused
        assert pool.open == 1


@pytest.mark.anyio
async def test_a_cancelled_wait_leaks_no_permit_even_when_it_was_just_served() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, limit=1) as pool:
        for served in ("reused", "permit", "not yet"):
            held = await pool.acquire()
            waiting = asyncio.create_task(pool.acquire())
            await until(lambda: pool.waiting == 1)
            if served == "reused":
                held.send_head(b"GET", b"/", [])
                response = await held.response(2)
                assert pool.waiting == 0
                assert response.complete
            elif served == "permit":
                held.abort()
                for _ in range(100):  # step by step, to cancel between the handing over and the taking
                    if pool.waiting:
                        await asyncio.sleep(0)
                assert pool.waiting == 0
            waiting.cancel()
            results = await asyncio.gather(waiting, return_exceptions=True)
            if isinstance(results[0], Connection):
                results[0].abort()
            held.abort()
            async with asyncio.timeout(2):
                assert await use(await pool.acquire()) == b"ok"


@pytest.mark.anyio
async def test_a_cancelled_connect_leaks_no_permit() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, limit=1) as pool:
        for turns in range(6):
            connecting = asyncio.create_task(pool.acquire())
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            results = await asyncio.gather(connecting, return_exceptions=True)
            if isinstance(results[0], Connection):
                results[0].abort()
            await until(lambda: pool.open == 0)
        assert await use(await pool.acquire()) == b"ok"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.anyio
async def test_a_refused_or_unresolvable_connection_is_connect_failed_and_leaks_no_permit() -> None:
    for host in ("127.0.0.1", "no-such-host.invalid", "a..b"):
        async with pool_to(Origin("http", host, closed_port()), connect=10, limit=1) as pool:
            for _ in range(2):
                with pytest.raises(ConnectFailed):
                    await pool.acquire()


@pytest.mark.anyio
async def test_a_connection_that_is_not_made_in_time_is_connect_timeout_and_leaks_no_permit() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            async with pool_to(Origin("http", "127.0.0.1", port), connect=0.05, limit=1) as pool:
                for _ in range(2):
                    with pytest.raises(ConnectTimeout):
                        await pool.acquire()
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.anyio
async def test_a_server_that_speaks_no_tls_is_connect_failed() -> None:
    async def play(call: Call) -> None:
        await call.reader.read(1)
        call.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with upstream(play) as up, pool_to(Origin("https", "127.0.0.1", up.origin.port)) as pool:
        with pytest.raises(ConnectFailed):
            await pool.acquire()


@pytest.mark.anyio
async def test_https_is_spoken_and_reused_and_the_certificate_is_checked(certificate: Path) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    async with upstream(echo_length, tls=server) as up:
        async with pool_to(up.origin) as pool:
            with pytest.raises(ConnectFailed, match="certificate"):
                await pool.acquire()
        trusting = ssl.create_default_context(cafile=str(certificate) + ".crt")
        pool = Pool(up.origin, connect=2, tls=trusting)
        for _ in range(3):
            assert (await post(pool))[2] == b"ok"
        assert pool.idle == 1
        await pool.close()
        assert pool.open == 0


@pytest.mark.anyio
async def test_where_addresses_are_judged_the_certificate_is_still_that_of_the_name(certificate: Path) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate) + ".crt")
    async with upstream(echo_length, tls=server) as up:
        pool = Pool(up.origin, connect=2, tls=trusting, refuse=lambda _: None)
        assert (await post(pool))[2] == b"ok"
        await pool.close()
        pool = Pool(Origin("https", "localhost", up.origin.port), connect=2, tls=trusting, refuse=lambda _: None)
        with pytest.raises(ConnectFailed):
            await pool.acquire()
        await pool.close()


@pytest.mark.anyio
async def test_an_exchange_leaves_nothing_for_the_garbage_collector() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin) as pool:
        await use(await pool.acquire())
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await use(await pool.acquire())
            assert not [found for found in gc.get_objects() if isinstance(found, (Response, Connection))]
        finally:
            gc.enable()


@pytest.mark.anyio
async def test_an_ipv6_host_is_reached() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no ipv6 loopback on this machine")
    async with upstream(saying(OK), host="::1") as up, pool_to(up.origin) as pool:
        assert await use(await pool.acquire()) == b"ok"


@pytest.mark.anyio
async def test_closing_the_pool_cuts_those_in_use_and_wakes_those_who_wait() -> None:
    async with upstream(saying(b"")) as up:
        pool = Pool(up.origin, connect=2, limit=1, wait=5)
        held = await pool.acquire()
        held.send_head(b"GET", b"/", [])
        reading = asyncio.create_task(held.response(5))
        waiting = asyncio.create_task(pool.acquire())
        await until(lambda: pool.waiting == 1)
        await pool.close()
        with pytest.raises(UpstreamReset):
            await reading
        with pytest.raises(PoolExhausted):
            await waiting
        with pytest.raises(PoolExhausted):
            await pool.acquire()
        assert pool.open == 0


@pytest.mark.anyio
async def test_an_exchange_gives_status_headers_and_body_and_keeps_the_connection() -> None:
    async with upstream(echo_length) as up, pool_to(up.origin) as pool:
        for _ in range(3):
            assert await post(pool) == (200, [(b"Content-Length", b"2")], b"ok")
        assert len(up.calls) == 1


async def echo_length(call: Call) -> None:
    while True:
        head = await call.head()
        assert head == b"POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
        assert await call.reader.readexactly(2) == b"{}"
        call.say(OK)


def stale(*, answer: bytes = b"", reset: bool = False, always: bool = False) -> Play:
    """Answers once on each connection; the next request on it is met with `answer` and a close."""

    async def play(call: Call) -> None:
        if call.number == 1 or not always:
            await call.until(b"{}")
            call.say(OK)
        await call.until(b"{}")
        if reset:
            call.reset()
        else:
            call.say(answer)

    return play


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.anyio
async def test_a_stale_connection_is_retried_once_on_a_fresh_one(reset: bool) -> None:
    async with upstream(stale(reset=reset)) as up, pool_to(up.origin) as pool:
        await asyncio.gather(post(pool), post(pool))
        assert pool.idle == 2, "both are stale: only a fresh one will do"
        assert (await post(pool))[0] == 200
        assert len(up.calls) == 3


@pytest.mark.anyio
async def test_a_retry_is_not_retried() -> None:
    async with upstream(stale(always=True)) as up, pool_to(up.origin) as pool:
        await post(pool)
        with pytest.raises(UpstreamReset):
            await post(pool)
        assert len(up.calls) == 2


@pytest.mark.anyio
async def test_nothing_is_retried_once_a_byte_of_a_response_came() -> None:
    async with upstream(stale(answer=b"H")) as up, pool_to(up.origin) as pool:
        await post(pool)
        with pytest.raises(UpstreamReset) as caught:
            await post(pool)
        assert caught.value.response_started
        assert len(up.calls) == 1


@pytest.mark.anyio
async def test_nothing_is_retried_that_was_lost_on_a_fresh_connection() -> None:
    async with upstream(saying(b"", close=True)) as up, pool_to(up.origin) as pool:
        with pytest.raises(UpstreamReset):
            await post(pool)
        assert len(up.calls) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"", HeadTimeout), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", IdleTimeout)],
)
@pytest.mark.anyio
async def test_an_exchange_ends_in_time_whatever_it_waits_for(answer: bytes, error: type[Exception]) -> None:
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:
        with pytest.raises(error):
            await post(pool, timeout=0.1)
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_an_exchange_waits_for_a_connection_no_longer_than_its_own_time() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin, limit=1, wait=30) as pool:
        held = await pool.acquire()
        with pytest.raises(PoolExhausted):
            async with asyncio.timeout(5):
                await post(pool, timeout=0.05)
        held.abort()


@pytest.mark.anyio
async def test_a_refused_head_leaves_no_connection_behind() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin) as pool:
        with pytest.raises(BadHead):
            await exchange(pool, b"POST", b"/a b", [], b"", timeout=2, most=10)
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_many_exchanges_at_once_over_few_connections_each_get_their_own_answer() -> None:
    async def play(call: Call) -> None:
        while True:
            head = await call.head()
            target = head.split(b" ", 2)[1]
            call.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target))
            await asyncio.sleep(0)
            call.say(target)

    async with upstream(play) as up, pool_to(up.origin, limit=4, wait=10) as pool:

        async def one(number: int) -> None:
            target = b"/%d" % number
            status, _, body = await exchange(pool, b"GET", target, [], b"", timeout=10, most=100)
            assert (status, body) == (200, target)

        await asyncio.gather(*(one(number) for number in range(200)))
        assert len(up.calls) == 4
        assert pool.idle == 4
