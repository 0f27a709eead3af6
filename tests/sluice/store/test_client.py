from __future__ import annotations

import pytest

from sluice.store.client import Call, Script, Store, StoreAway, StoreRefused, load_script
from sluice.store.protocol.address import parse
from sluice.store.protocol.errors import ErrorReply, raised


def script(text: str) -> Script:
    import hashlib

    return Script("test", text, hashlib.sha1(text.encode()).hexdigest())


@pytest.mark.anyio
async def test_a_script_runs_although_the_store_has_never_seen_it(store: Store) -> None:
    assert await store.run(script("return ARGV[1]"), ["k"], ["seen"]) == b"seen"


@pytest.mark.anyio
async def test_a_store_that_forgot_its_scripts_learns_them_again(store: Store) -> None:
    add = script("return redis.call('INCR', KEYS[1])")
    await store.run(add, ["n"], [])
    await store.redis.script_flush()
    assert await store.run_all([Call(add, ["n"], []), Call(add, ["n"], [])]) == [2, 3]


@pytest.mark.anyio
async def test_plain_commands_ride_along_with_scripts(store: Store) -> None:
    add = script("return redis.call('INCR', KEYS[1])")
    await store.run(add, ["n"], [])
    assert await store.run_all([Call(add, ["n"], [])], also=[("GET", "n")]) == [2, b"2"]


@pytest.mark.anyio
async def test_an_error_of_the_store_is_not_mistaken_for_an_absent_store(store: Store) -> None:
    with pytest.raises(StoreRefused, match="broken"):
        await store.run(script("return redis.error_reply('ERR broken')"), ["k"], [])


@pytest.mark.anyio
async def test_an_absent_store_is_said_to_be_away() -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    with pytest.raises(StoreAway):
        await absent.ping()
    await absent.close()


def test_a_missing_script_is_found_out_at_import() -> None:
    with pytest.raises(FileNotFoundError):
        load_script("relay", "nosuch")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("LOADING Redis is loading the dataset in memory", StoreAway),
        ("MASTERDOWN Link with MASTER is down", StoreAway),
        ("CLUSTERDOWN The cluster is down", StoreAway),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreAway),
        ("ERR max number of clients reached", StoreAway),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreRefused),
        ("READONLY You can't write against a read only replica.", StoreRefused),
        ("ERR max number of anything else", StoreRefused),
    ],
)
def test_what_passes_by_itself_is_away_and_the_rest_is_refused(reply: str, kind: type[Exception]) -> None:
    error = raised(ErrorReply(reply))
    assert type(error) is kind
    assert str(error) == reply


def test_an_address_is_read_as_redis_py_reads_it_and_shows_no_secret() -> None:
    address = parse("redis://user:s3cret@[::1]:7000/2?client_name=gate")
    assert (address.host, address.port, address.db, address.name) == ("::1", 7000, 2, "gate")
    assert (address.username, address.password) == ("user", "s3cret")
    assert str(address) == "[::1]:7000"
    assert "s3cret" not in repr(address)
    assert str(parse("unix:///run/valkey.sock?db=1")) == "/run/valkey.sock"
