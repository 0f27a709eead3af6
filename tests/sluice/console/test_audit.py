"""The audit log: who changed what, from where, and what came of it."""

from __future__ import annotations

import fcntl
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.resources import Resources
from sluice.config import LogPolicy
from sluice.console import audit
from sluice.console.actions.circuits import HeldCircuit, HoldCircuit
from sluice.console.actions.dead_letters import ReplayDeadLetters
from sluice.console.audit import Actor, path_of, perform
from sluice.console.operations import HOLD_CIRCUIT, REPLAY_DEAD_LETTERS
from sluice.store.client import Store, StoreAway
from tests.heard import Heard
from tests.sluice.console.deployment import TOKEN, parts_on, policies_in
from tests.sluice.console.test_acting import bury, get, post
from tests.sluice.console.test_http import BEARER, http, served

__all__ = ["http"]
pytestmark = pytest.mark.anyio

ME = Actor("ada", "desk", "command line")


def lines(parts: Resources) -> list[dict[str, Any]]:
    path = path_of(parts.policies)
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def unheard(why: str, line: bytes) -> None:
    raise AssertionError(why)


@pytest.fixture
async def behind_a_proxy(store: Store, tmp_path: Path) -> AsyncIterator[tuple[httpx2.AsyncClient, Resources]]:
    more = "console: {token: env:TOKEN}\ntrust: {proxies: [127.0.0.1/32]}\n"
    parts = parts_on(store, policies_in(tmp_path, more))
    async with served(parts) as client:
        yield client, parts


async def test_every_change_is_a_line(http: httpx2.AsyncClient, parts: Resources) -> None:
    await bury(parts, "evt_1")
    await bury(parts, "evt_2")
    await post(http, "/circuits/laravel", {"hold": "open", "why": "moving"})
    await post(http, "/circuits/laravel", {"hold": None})
    await post(http, "/dead/replay", {"ids": ["evt_1"]})
    await post(http, "/dead/drop", {"all": True, "confirm": True})
    found = lines(parts)
    assert [(one["who"], one["from"], one["through"]) for one in found] == [("console.token", "127.0.0.1", "api")] * 4
    assert [(one["action"], one["request"]) for one in found] == [
        ("hold_circuit", {"endpoint": "laravel", "hold": "open", "why": "moving"}),
        ("hold_circuit", {"endpoint": "laravel", "hold": None}),
        ("replay_dead_letters", {"ids": ["evt_1"]}),
        ("drop_dead_letters", {"all": True, "confirm": True}),
    ]
    assert [one["result"].get("changed", one["result"].get("left")) for one in found] == [True, True, 0, 0]
    assert (found[2]["result"]["replayed"], found[3]["result"]["dropped"]) == (1, 1)
    assert all(one["at"].endswith("Z") for one in found)
    assert stat.S_IMODE(path_of(parts.policies).stat().st_mode) == 0o600


async def test_what_changes_nothing_is_no_line(http: httpx2.AsyncClient, parts: Resources) -> None:
    await bury(parts, "evt_1")
    await get(http, "/dead")
    await post(http, "/dead/replay", {"all": True, "dry_run": True})
    await post(http, "/dead/replay", {"ids": ["evt_9"]})
    await post(http, "/circuits/larvel", {"hold": "open"})
    await http.post("/_sluice/api/dead/replay", json={"all": True})
    assert lines(parts) == []


async def test_the_client_is_the_one_that_a_trusted_proxy_names(
    behind_a_proxy: tuple[httpx2.AsyncClient, Resources],
) -> None:
    client, parts = behind_a_proxy
    headers = {**BEARER, b"X-Forwarded-For": b"198.51.100.1, 203.0.113.7"}
    await client.post("/_sluice/api/circuits/laravel", json={"hold": "closed"}, headers=headers)
    assert [one["from"] for one in lines(parts)] == ["203.0.113.7"]


async def test_an_address_that_a_stranger_claims_is_not_believed(http: httpx2.AsyncClient, parts: Resources) -> None:
    headers = {**BEARER, b"X-Forwarded-For": b"203.0.113.7"}
    await http.post("/_sluice/api/circuits/laravel", json={"hold": "closed"}, headers=headers)
    assert [one["from"] for one in lines(parts)] == ["127.0.0.1"]


async def test_no_secret_is_ever_in_a_line(http: httpx2.AsyncClient, parts: Resources) -> None:
    await post(http, "/circuits/laravel", {"hold": "open", "why": f"it is {TOKEN}, see"})
    assert lines(parts)[0]["request"]["why"] == "it is ***, see"


@pytest.mark.parametrize("key", ["the-key-of-node", "k3y"])
async def test_the_key_of_a_worker_is_a_secret_too_however_short(store: Store, tmp_path: Path, key: str) -> None:
    (tmp_path / "node.key").write_text(key)
    more = "sessions: {workers: [{url: 'http://127.0.0.1:3001', key: 'file:node.key'}]}\n"
    parts = parts_on(store, policies_in(tmp_path, more))
    await perform(HOLD_CIRCUIT, parts, HoldCircuit("laravel", "open", key), ME, unheard)
    assert lines(parts)[0]["request"]["why"] == "***"


async def test_a_secret_that_holds_another_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    for name, key in (("one", "inner"), ("two", "inner-and-outer")):
        (tmp_path / name).write_text(key)
    workers = ", ".join(
        f"{{url: 'http://127.0.0.1:300{n}', key: 'file:{name}'}}" for n, name in enumerate(("one", "two"))
    )
    parts = parts_on(store, policies_in(tmp_path, f"sessions: {{workers: [{workers}]}}\n"))
    await perform(HOLD_CIRCUIT, parts, HoldCircuit("laravel", "open", "inner-and-outer"), ME, unheard)
    assert lines(parts)[0]["request"]["why"] == "***"


async def test_a_line_that_cannot_be_written_is_told_and_the_change_is_made(
    http: httpx2.AsyncClient, parts: Resources, heard: Heard
) -> None:
    path_of(parts.policies).parent.parent.mkdir()
    path_of(parts.policies).parent.write_text("no folder")
    code, answer = await post(http, "/circuits/laravel", {"hold": "open"})
    assert (code, answer["changed"]) == (200, True)
    (told,) = [fields for message, fields in heard.lines if message == "audit.not_written"]
    assert told["reason"] == f"{path_of(parts.policies)} cannot be written (file exists)"
    assert orjson.loads(told["line"])["request"] == {"endpoint": "laravel", "hold": "open"}


async def test_a_log_that_another_process_holds_is_not_waited_for(
    parts: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_LOCK_TIMEOUT", 0.05)
    folder, failures = path_of(parts.policies).parent, list[str]()
    folder.mkdir(parents=True)
    with open(folder / ".audit.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = await perform(
            HOLD_CIRCUIT, parts, HoldCircuit("laravel", "open"), ME, lambda why, line: failures.append(why)
        )
    assert isinstance(held, HeldCircuit)
    assert failures == [f"{path_of(parts.policies)} cannot be written (resource temporarily unavailable)"]


async def test_a_line_that_was_cut_is_ended_before_the_next_one(parts: Resources) -> None:
    path = path_of(parts.policies)
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"at":"20')
    await perform(HOLD_CIRCUIT, parts, HoldCircuit("laravel", "open"), ME, unheard)
    cut, whole = path.read_bytes().splitlines()
    assert (cut, orjson.loads(whole)["who"]) == (b'{"at":"20', "ada")


async def test_what_broke_off_is_a_line_with_its_error(parts: Resources, short_folder: Path) -> None:
    away = Store(f"unix://{short_folder}/nobody.sock", timeout=0.5)
    gone = parts_on(away, parts.policies)
    with pytest.raises(StoreAway):
        await perform(REPLAY_DEAD_LETTERS, gone, ReplayDeadLetters(all=True), ME, unheard)
    await away.close()
    (found,) = lines(parts)
    assert (found["who"], found["from"], found["through"]) == ("ada", "desk", "command line")
    assert "result" not in found
    assert found["error"].startswith("no connection to ")


async def test_a_full_log_begins_anew_and_the_one_before_it_is_kept(store: Store, parts: Resources) -> None:
    parts = parts_on(store, replace(parts.policies, log=LogPolicy(size=1000)))
    for number in range(8):
        held = await perform(HOLD_CIRCUIT, parts, HoldCircuit("laravel", "open", f"{number}"), ME, unheard)
        assert isinstance(held, HeldCircuit)
    path = path_of(parts.policies)
    kept = [orjson.loads(line)["request"]["why"] for line in path.with_suffix(".jsonl.1").read_bytes().splitlines()]
    kept += [one["request"]["why"] for one in lines(parts)]
    assert kept == [str(number) for number in range(8)][-len(kept) :]
    assert all(one.stat().st_size <= 1000 for one in path.parent.glob("audit.jsonl*"))


async def test_it_is_read_from_the_newest_line_back_a_page_at_a_time(
    http: httpx2.AsyncClient, parts: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await post(http, "/circuits/laravel", {"hold": "open", "why": f"reason {number} " + "x" * 100})
    with path_of(parts.policies).open("ab") as log:
        log.write(b'no line\n{"at": 3}\n[]\n')
    code, page = await get(http, "/audit?limit=1")
    (line,) = page["lines"]
    assert (code, line["who"], line["place"], line["through"]) == (200, "console.token", "127.0.0.1", "api")
    assert (line["action"], line["request"]["endpoint"], line["error"]) == ("hold_circuit", "laravel", None)
    seen = [line["request"]["why"][:8]]
    while page["next"] is not None:
        _, page = await get(http, f"/audit?limit=1&after={page['next']}")
        seen += [one["request"]["why"][:8] for one in page["lines"]]
    assert seen == ["reason 3", "reason 2", "reason 1", "reason 0"]
    assert (await get(http, "/audit?action=drop_waiting"))[1]["lines"] == []
    code, refused = await get(http, "/audit?after=x")
    assert (code, refused["detail"]) == (
        400,
        'after is "x", which is not the next of a page; leave it out to begin anew',
    )
