from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.resources import Resources
from sluice.console.alerting import observe, seen_in
from sluice.console.status import FaultStatus, LastMinute, LimitDecisions, StoreStatus
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from sluice.store.client import Store
from tests.sluice.console.deployment import parts_on, policies_in
from tests.sluice.console.saying import WELL, endpoint
from tests.sluice.console.test_acting import bury

RULES = "alerts: {receivers: {ops: {command: [/bin/true]}}, rules: [{when: dead_letters_growing, over: 1, to: ops}]}\n"


def test_nothing_is_found_where_all_is_well() -> None:
    assert seen_in(WELL, {}).found == ()


@pytest.mark.parametrize(
    ("kind", "alert"),
    [("silent", "session_silent"), ("flapping", "session_flapping"), ("qr_scanning", "session_stuck")],
)
def test_sessions_that_are_not_well_are_found_by_the_kind_of_their_trouble(kind: str, alert: str) -> None:
    status = replace(WELL, faults=(FaultStatus(kind, 3, ("s1", "s2"), restarted=False),))
    found = {one.kind: one for one in seen_in(status, {}).found}
    assert found[alert].subject == kind
    assert found[alert].text.startswith("3 sessions are ")
    assert found["anything_wrong"].subject == "faults"


@pytest.mark.anyio
async def test_what_only_this_machine_knows_is_found_without_the_store_and_says_where(tmp_path: Path) -> None:
    away = Store("unix:///nowhere.sock", timeout=0.1)
    parts = parts_on(away, policies_in(tmp_path, f"{RULES}data: {tmp_path}\n"))
    here = {one.subject: one for one in (await observe(parts, here=True)).found}
    await away.close()
    machine = socket.gethostname()
    assert here["disk"].machine == machine
    assert here["disk"].text.startswith(f"on {machine}: the disk of ")
    assert all(one.machine == machine for one in here.values()), "what lies in the store is not guessed"


def test_what_is_of_one_machine_says_so_and_nothing_else_does() -> None:
    status = replace(
        WELL,
        relays=0,
        endpoints={"laravel": endpoint()},
        last_minute=LastMinute(limits={"send": LimitDecisions(allowed=10, rejected=30)}),
    )
    placed = {one.kind: bool(one.machine) for one in seen_in(status, {}).found}
    assert placed["limit_refusing"]
    assert not placed["no_relay"]


def test_without_the_store_nobody_says_that_what_lies_in_it_is_over() -> None:
    seen = seen_in(replace(WELL, store=StoreStatus(False, "refused")), None)
    assert "store_away" in {one.kind for one in seen.found}
    assert {"session_silent", "dead_letters"} <= seen.unknown
    assert "store_away" not in seen.unknown


@pytest.mark.anyio
async def test_dead_letters_that_grow_are_found_by_how_many_came_within_the_hour(store: Store, tmp_path: Path) -> None:
    parts = parts_on(store, policies_in(tmp_path, RULES))
    for number in range(3):
        await bury(parts, f"evt_{number}")
    assert await _growth(parts) is None  # nobody knows yet how many there were
    for step, dead in enumerate((7, 1, 3), 1):
        there_were = Value("max", Series("dead", "laravel", "dead"), dead)
        await store.run_all([note("a", step, 1000.0 - step * 100, [there_were])])
    text = "endpoint laravel: 2 dead letters came within the last hour, 3 wait for a person: sluice dead list"
    assert await _growth(parts) == (2, text)


@pytest.mark.anyio
async def test_where_no_rule_asks_for_growth_the_history_is_not_read(parts: Resources) -> None:
    await bury(parts, "evt_1")
    await parts.store.run_all([note("a", 1, 100.0, [Value("max", Series("dead", "laravel", "dead"), 0)])])
    assert await _growth(parts) is None


async def _growth(parts: Resources) -> tuple[float, str] | None:
    found = [one for one in (await observe(parts)).found if one.kind == "dead_letters_growing"]
    return (found[0].value, found[0].text) if found else None
