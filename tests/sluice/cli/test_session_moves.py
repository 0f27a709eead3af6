"""`sluice sessions forget`, `move`, `release` and `list` on a real store: what a person reads."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from sessions.lifecycle.cleanings import NotClosed, Run
from sessions.lifecycle.election import Election
from sessions.registry import ObservedSession, Registry, Report, Worker
from sluice.store.client import Store
from tests.sluice.cli.command import sluice
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(f'version: 1\nstore: {{url: "{store_url}"}}\n')
    return file


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


async def test_forgetting_asks_first(registry: Registry, policies: Path) -> None:
    await registry.want({"s1": {}})
    ran = sluice("sessions", "forget", "s1", "--policies", policies)
    assert ran.out == "s1 would be forgotten, with its history; nobody has it\n"
    assert (ran.code, ran.err) == (1, "sluice: nothing was forgotten; say yes, or give --yes\n")
    ran = sluice("sessions", "forget", "s1", "--json", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (1, "", "sluice: nothing was forgotten; say yes, or give --yes\n")
    ran = sluice("sessions", "forget", "s1", "--yes", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "forgotten: s1\n", "")
    assert sluice("sessions", "list", "--policies", policies).out == "no sessions\n"


async def test_moving_says_where_it_goes_and_what_that_means(registry: Registry, policies: Path) -> None:
    await registry.want({"s1": {}})
    await registry.register(Worker("a", "1", "http://a:3000", 5))
    ran = sluice("sessions", "move", "s1", "--to", "a", "--dry-run", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "s1 would go to a\n", "")
    ran = sluice("sessions", "move", "s1", "--to", "a", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "s1 goes to a\n", "")
    ran = sluice("sessions", "move", "s1", "--to", "a", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "s1 is at a already\n", "")
    ran = sluice("sessions", "release", "s1", "--policies", policies)
    assert ran.out == ("s1 goes from a to the first worker of yours with room\na stops it first, with its next beat\n")


async def test_orphans_are_listed_with_the_reason(registry: Registry, policies: Path) -> None:
    await registry.observe(Worker("w1", "1", "http://w1:3000", 5), {"s2": ObservedSession("connected", "49170")})
    await registry.want({"s1": {}})
    ran = sluice("sessions", "list", "--orphaned", "--policies", policies)
    assert (ran.code, ran.err) == (0, "")
    row = ran.out.split("\n")[1].split()
    assert row[:3] == ["s1", "created", "-"]
    assert " ".join(row[3:]) == "nobody no worker of yours is live: start one (docs/workers.md)"
    assert ran.out.endswith("1 sessions, 1 without a worker\n")


async def test_a_session_that_was_ended_is_shown_so_and_restored(registry: Registry, policies: Path) -> None:
    await registry.want({"s1": {}})
    await registry.end("s1", "superseded", stays="s2")
    ran = sluice("sessions", "list", "--policies", policies)
    assert " ".join(ran.out.split("\n")[1].split()) == "s1 created - nobody: superseded by s2 -"
    assert ran.out.endswith("1 sessions\n")
    assert sluice("sessions", "list", "--orphaned", "--policies", policies).out == "no sessions\n"
    ran = sluice("sessions", "restore", "s1", "--dry-run", "--policies", policies)
    assert (ran.code, ran.out) == (0, "s1 would be restored; it was ended: superseded by s2\n")
    ran = sluice("sessions", "restore", "s1", "--policies", policies)
    assert (ran.code, ran.out) == (0, "s1 is restored; it was ended: superseded by s2\n")
    ran = sluice("sessions", "restore", "s1", "--policies", policies)
    assert (ran.code, ran.err) == (2, 'sluice: "s1" was not ended: it is created (sluice sessions show)\n')


async def test_a_session_that_was_ended_is_not_moved(registry: Registry, policies: Path) -> None:
    await registry.want({"s1": {}})
    await registry.register(Worker("a", "1", "http://a:3000", 5))
    await registry.end("s1", "deleted")
    ran = sluice("sessions", "move", "s1", "--to", "a", "--policies", policies)
    assert (ran.code, ran.err) == (2, 'sluice: "s1" was ended: `sluice sessions restore` takes that back\n')


async def test_cleaning_asks_first_and_says_what_became_of_each(registry: Registry, policies: Path) -> None:
    policies.write_text(policies.read_text() + "sessions: {cleanup: {failed: 1ms}}\n")
    await registry.want({"s1": {}, "s2": {}})
    await registry.register(Worker("w1", "1", "http://w1:3000", 5))
    await registry.place_orphans()
    held = await registry.beat("w1", "1", {}, {})
    await registry.beat("w1", "1", {"s1": Report(held["s1"], "failed"), "s2": Report(held["s2"], "connected")}, {})
    ran = sluice("sessions", "clean", "--dry-run", "--policies", policies)
    assert " ".join(ran.out.split("\n")[1].split()) == "s1 - - w1 failed for 0m"
    assert ran.out.endswith("1 sessions are stale\nby itself the next time: now\n")
    ran = sluice("sessions", "clean", "--policies", policies)
    assert (ran.code, ran.err) == (1, "sluice: nothing was ended; say yes, or give --yes\n")
    ran = sluice("sessions", "clean", "--yes", "--policies", policies)
    assert (ran.code, ran.out.split("\n")[-2]) == (0, "1 ended")
    ran = sluice("sessions", "clean", "--policies", policies)
    assert ran.out == "no session is stale\nby itself the next time: now\n"


async def test_what_the_cleaner_did_by_itself_is_shown(registry: Registry, policies: Path, store: Store) -> None:
    assert sluice("sessions", "clean", "--policies", policies).out.endswith(
        "nothing is ended by itself: write sessions.cleanup for that\n"
    )
    policies.write_text(policies.read_text() + "sessions: {cleanup: {}}\n")
    election = Election(store, "gw")
    assert await election.win(60.0)
    run = Run(
        "gw", ended=100, more=True, purged=2, not_purged=1, why_not_purged="away", not_closed=(NotClosed("s", "w"),)
    )
    await election.done(3600.0, orjson.dumps(run))
    lines = sluice("sessions", "clean", "--policies", policies).out.splitlines()
    assert lines[1].startswith("by itself the next time: 20")
    assert re.fullmatch(
        r"the last time: .* UTC, by gw: ended 100, purged 2, and left others for the next run", lines[2]
    )
    assert lines[3:] == ["not closed by w: s", "not purged: 1 (away)"]
    told = orjson.loads(sluice("sessions", "clean", "--dry-run", "--json", "--policies", policies).out)
    assert (told["cleanup"]["last"]["ended"], told["cleanup"]["last"]["by"]) == (100, "gw")


async def test_rebalancing_asks_first_and_says_what_moves(registry: Registry, policies: Path) -> None:
    policies.write_text(policies.read_text() + "sessions: {rebalance: {quiet: 3s}}\n")
    ran = sluice("sessions", "rebalance", "--policies", policies)
    assert (ran.code, ran.out) == (
        0,
        "no session is to be moved: the workers are balanced, or all sessions are busy\n",
    )
    await registry.register(Worker("a", "1", "http://a:3000", 9))
    await registry.want({name: {} for name in ("s1", "s2", "s3")})
    await registry.place_orphans()
    held = await registry.beat("a", "1", {}, {})
    await registry.beat("a", "1", {name: Report(fence, "connected") for name, fence in held.items()}, {})
    await registry.register(Worker("b", "1", "http://b:3000", 9))

    async def all_are_quiet() -> bool:
        await registry.note_activity([], [])
        return all(one.idle > 3.0 for one in await registry.held_by("a"))

    await until(all_are_quiet)
    ran = sluice("sessions", "rebalance", "--dry-run", "--policies", policies)
    session, *way = ran.out.split("\n")[1].split()
    assert way == ["a", "b"]
    assert ran.out.endswith("1 sessions would move; each is closed where it is, and opened where it goes\n")
    ran = sluice("sessions", "rebalance", "--policies", policies)
    assert (ran.code, ran.err) == (1, "sluice: nothing was moved; say yes, or give --yes\n")
    ran = sluice("sessions", "rebalance", "--yes", "--policies", policies)
    assert (ran.code, ran.out.split("\n")[-2]) == (0, "1 moved")
    assert sorted(await registry.beat("a", "1", {}, {})) == sorted(held.keys() - {session})
    assert session in await registry.beat("b", "1", {}, {})
