from __future__ import annotations

import pytest

from runtime.store import Call, Script, Store, StoreAway, StoreRefused, load_script

pytestmark = pytest.mark.anyio


def script(text: str) -> Script:
    import hashlib

    return Script("test", text, hashlib.sha1(text.encode()).hexdigest())


async def test_a_script_runs_although_the_store_has_never_seen_it(store: Store) -> None:
    assert await store.run(script("return ARGV[1]"), ["k"], ["seen"]) == b"seen"


async def test_a_store_that_forgot_its_scripts_learns_them_again(store: Store) -> None:
    add = script("return redis.call('INCR', KEYS[1])")
    await store.run(add, ["n"], [])
    await store.redis.script_flush()
    assert await store.run_all([Call(add, ["n"], []), Call(add, ["n"], [])]) == [2, 3]


async def test_plain_commands_ride_along_with_scripts(store: Store) -> None:
    add = script("return redis.call('INCR', KEYS[1])")
    assert await store.run_all([Call(add, ["n"], [])], also=[("GET", "n")]) == [1, b"1"]


async def test_an_error_of_the_store_is_not_mistaken_for_an_absent_store(store: Store) -> None:
    with pytest.raises(StoreRefused, match="broken"):
        await store.run(script("return redis.error_reply('ERR broken')"), ["k"], [])


async def test_an_absent_store_is_said_to_be_away() -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    with pytest.raises(StoreAway):
        await absent.ping()
    await absent.close()


def test_a_missing_script_is_found_out_at_import() -> None:
    with pytest.raises(FileNotFoundError):
        load_script("relay", "nosuch")
