"""A store of several servers, each of which owns some of the keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from sluice.store.client import Arg, Call, Store, StoreAway, StoreRefused, by_text, clock_key
from sluice.store.durability import broken
from sluice.store.health import health_of
from sluice.store.protocol.errors import ErrorReply
from sluice.store.protocol.slots import owners, redirection, slot_of
from sluice.store.scan import scan
from tests.sluice.store.store_deployments import cluster, formed, valkey
from tests.sluice.store.store_servers import Server
from tests.sluice.store.test_client import script
from tests.waiting import until

pytestmark = pytest.mark.slow

ADD = script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
KEYS = [f"{{{i}}}:n" for i in range(30)]
"""Of many slots, on all servers."""


@pytest.fixture
def servers(short_folder: Path, free_port: Callable[[], int]) -> Iterator[list[Server]]:
    """Three masters, a third of the slots each, and a replica of the first."""
    with cluster(short_folder, free_port, valkey(), replicas=1) as started:
        yield started.all


@pytest.fixture
async def store(servers: list[Server]) -> AsyncIterator[Store]:
    store = Store(f"redis+cluster://127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}", timeout=2.0)
    yield store
    await store.close()


def _of(server: int) -> str:
    """A key that the server owns at first."""
    return next(key for key in KEYS if key_slot(key.encode()) * 3 // 16384 == server)


@pytest.mark.anyio
async def test_every_call_goes_to_the_owner_of_its_key_and_results_stay_in_order(store: Store) -> None:
    assert await store.run_all([Call(ADD, [key], [i]) for i, key in enumerate(KEYS)]) == list(range(30))
    assert await store.run(ADD, [KEYS[7]], [1]) == 8
    assert await store.commands(*(("GET", key) for key in KEYS[:3]), ("PING",)) == [b"0", b"1", b"2", b"PONG"]


@pytest.mark.anyio
async def test_a_scan_meets_the_keys_of_all_servers(store: Store) -> None:
    await store.run_all([Call(ADD, [key], [1]) for key in KEYS])
    assert {key.decode() async for key in scan(store, "*")} >= set(KEYS)


@pytest.mark.anyio
async def test_many_callers_at_once_are_not_mixed_up(store: Store) -> None:
    await asyncio.gather(*(store.run(ADD, [key], [i]) for i, key in enumerate(KEYS) for _ in range(20)))
    assert await store.commands(*(("GET", key) for key in KEYS)) == [b"%d" % (20 * i) for i in range(30)]


@pytest.mark.anyio
async def test_servers_that_forgot_a_script_learn_it_again(store: Store, servers: list[Server]) -> None:
    await store.run_all([Call(ADD, [key], [1]) for key in KEYS])
    for server in servers[:2]:
        server.tell("SCRIPT", "FLUSH")
    assert await store.run_all([Call(ADD, [key], [1]) for key in KEYS]) == [2] * 30


@pytest.mark.anyio
async def test_a_slot_that_moves_is_followed_while_and_after_it_moves(store: Store, servers: list[Server]) -> None:
    """All keys of a call at once, the one of its clock too: a server refuses calls of which it has some keys only."""
    key = _of(0)
    await store.commands(("SET", key, 1), ("SET", clock_key(key), 1))
    slot = key_slot(key.encode())
    source, target = servers[0].tell("CLUSTER", "MYID"), servers[1].tell("CLUSTER", "MYID")
    servers[1].tell("CLUSTER", "SETSLOT", slot, "IMPORTING", source)
    servers[0].tell("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
    assert await store.run(ADD, [key], [1]) == 2
    servers[0].tell("MIGRATE", "127.0.0.1", servers[1].port, "", 0, 5000, "KEYS", key, clock_key(key))
    assert await store.run(ADD, [key], [1]) == 3  # ASK
    for server in (servers[1], servers[0]):
        server.tell("CLUSTER", "SETSLOT", slot, "NODE", target)
    assert await store.run_all([Call(ADD, [key], [1]), Call(ADD, [_of(1)], [5])]) == [4, 5]  # MOVED


@pytest.mark.anyio
async def test_a_replica_that_takes_over_is_found(store: Store, servers: list[Server]) -> None:
    key = _of(0)
    for server in servers:
        server.tell("CONFIG", "SET", "cluster-node-timeout", 1000)
    await store.run(ADD, [key], [1])
    formed(lambda: servers[0].tell("WAIT", 1, 100) == 1)
    servers[0].kill()

    async def answers() -> bool:
        try:
            return bool(await store.run(ADD, [key], [1]) >= 2)
        except StoreAway:
            return False

    await until(answers, timeout=15, what="the replica to take over")
    await store.run(ADD, [_of(2)], [1])


@pytest.mark.anyio
async def test_keys_of_several_slots_in_one_call_are_refused(store: Store) -> None:
    with pytest.raises(StoreRefused, match="CROSSSLOT"):
        await store.run(ADD, [_of(0), _of(1)], [1])


@pytest.mark.anyio
async def test_what_replicas_confirm_is_told_of_the_server_with_the_fewest(store: Store, servers: list[Server]) -> None:
    """Of those that scripts went to: of what is only read nothing has to be copied."""

    def add(key: str) -> tuple[Arg, ...]:
        return tuple(by_text(ADD, [key], [1]))

    wait, with_replica, without = ("WAIT", 1, 200), add(_of(0)), add(_of(1))
    patient = ("WAIT", 1, 1500)
    await store.commands(("SET", clock_key(_of(0)), 1))  # without it the server says TRYAGAIN while the slot moves
    assert (await store.run_all((), [with_replica, ("GET", _of(1)), patient]))[-1] == 1
    assert (await store.run_all((), [with_replica, without, wait]))[-1] == 0
    servers[3].freeze()
    assert (await store.run_all((), [with_replica, wait]))[-1] == 0
    servers[3].thaw()
    assert (await store.run_all((), [with_replica, patient]))[-1] == 1
    slot, target = key_slot(_of(0).encode()), servers[1].tell("CLUSTER", "MYID")
    source = servers[0].tell("CLUSTER", "MYID")
    servers[1].tell("CLUSTER", "SETSLOT", slot, "IMPORTING", source)
    servers[0].tell("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
    servers[0].tell("MIGRATE", "127.0.0.1", servers[1].port, "", 0, 5000, "KEYS", _of(0), clock_key(_of(0)))
    assert (await store.run_all((), [with_replica, wait])) == [5, 0], "it was written where no replica is"
    for server in (servers[1], servers[0]):
        server.tell("CLUSTER", "SETSLOT", slot, "NODE", target)
    assert (await store.run_all((), [with_replica, wait])) == [6, 0]  # MOVED


@pytest.mark.anyio
async def test_the_promise_and_the_health_of_each_server_count(store: Store, servers: list[Server]) -> None:
    assert await broken(store, "second") == ["appendonly is no, it must be yes"]
    for server in servers[:3]:
        server.tell("CONFIG", "SET", "appendonly", "yes")
    assert await broken(store, "second") == []
    servers[1].tell("CONFIG", "SET", "maxmemory", 50_000_000)
    assert (await health_of(store)).max_memory == 50_000_000, "it is the fullest"
    servers[2].tell("CONFIG", "SET", "appendonly", "no")
    assert await broken(store, "second") == ["appendonly is no, it must be yes"]
    assert not (await health_of(store)).appends


@pytest.mark.anyio
async def test_servers_that_do_not_answer_and_such_as_are_no_members_are_told(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    single = Server(short_folder, free_port())
    store = Store(f"redis+cluster://127.0.0.1:{single.port}", timeout=2.0)
    with pytest.raises(StoreAway, match=f"^no connection to 127.0.0.1:{single.port}: "):
        await store.ping()
    single.start()
    try:
        with pytest.raises(
            StoreAway, match="is no member of a cluster: ERR This instance has cluster support disabled"
        ):
            await store.ping()
    finally:
        await store.close()
        single.kill()


@pytest.mark.anyio
async def test_channels_work_through_any_server(store: Store, servers: list[Server]) -> None:
    ear = store.redis.pubsub(ignore_subscribe_messages=True)
    await ear.subscribe("news")

    async def heard() -> bool:
        await store.commands(("PUBLISH", "news", "x"))
        message = await ear.get_message(timeout=0.1)
        return message is not None and message["data"] == b"x"

    await until(heard)
    await ear.aclose()  # type: ignore[no-untyped-call]


def test_a_command_goes_by_its_first_key() -> None:
    assert slot_of(("EVALSHA", "sha", 2, "{a}:1", "{a}:2", "arg")) == slot_of(("GET", b"{a}:9")) == key_slot(b"a")
    assert slot_of(("EVALSHA", "sha", 0, "arg")) is None
    assert slot_of(("PUBLISH", "channel", "x")) is None
    with pytest.raises(ValueError, match="WAIT speaks of the commands before it"):
        slot_of(("WAIT", 1, 50))


def test_a_server_that_does_not_know_its_own_name_is_where_it_was_asked() -> None:
    told = owners([[0, 1, [b"", 7000, b"id"]], [3, 16383, [b"10.0.0.2", 7001, b"id"], [b"10.0.0.3", 7002, b"id"]]], "h")
    assert told[:4] == [("h", 7000), ("h", 7000), None, ("10.0.0.2", 7001)]
    assert redirection(ErrorReply("MOVED 5 :7002")) == ("MOVED", 5, ("", 7002))
    assert redirection(ErrorReply("ASK 5 fe80::1:7002")) == ("ASK", 5, ("fe80::1", 7002))
    assert redirection(ErrorReply("ERR no")) is None
