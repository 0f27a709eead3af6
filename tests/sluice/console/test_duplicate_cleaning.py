"""Duplicates of a phone: which are found, and what becomes of them, on a real store and with a real worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.resources import Resources
from sessions.existing import ExistingWorkers
from sessions.lifecycle.policies import OnePhone
from sessions.policies import ExistingWorker
from sessions.registry import Registry
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.actions.duplicate_cleaning import (
    CleanDuplicates,
    CleanedDuplicates,
    clean_duplicates,
)
from tests.sluice.console.contract_worker import ContractWorker, Session, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node() -> AsyncIterator[ContractWorker]:
    async with serving(ContractWorker()) as node:
        yield node


async def watched(parts: Resources, node: ContractWorker, **sessions: Session) -> Resources:
    """It runs these, one after the other, and is named as n1."""
    known, registry = ExistingWorker(node.url, name="n1"), Registry(parts.store, 60.0)
    watch = ExistingWorkers(registry, [known], 9)
    for name, one in sessions.items():
        node.sessions[name] = one
        await watch.run_once()
    await watch.close()
    policies = replace(parts.policies, sessions=replace(parts.policies.sessions, workers=(known,)))
    return replace(parts, policies=policies, registry=registry)


def connected(phone: str, workspace: int = 7) -> Session:
    return Session("connected", phone, workspace)


async def cleaned(parts: Resources, **more: object) -> CleanedDuplicates:
    found = await clean_duplicates(parts, CleanDuplicates(**more))  # type: ignore[arg-type]
    assert isinstance(found, CleanedDuplicates)
    return found


async def test_two_that_are_connected_with_one_phone_leave_one(parts: Resources, node: ContractWorker) -> None:
    parts = await watched(parts, node, old=connected("49170"), new=connected("+49 170"), other=connected("49170", 8))
    (planned,) = (await cleaned(parts, dry_run=True)).sessions
    assert (planned.session, planned.stays, planned.why) == ("old", "new", "connected, as new is")
    assert (planned.worker, planned.phone, planned.outcome, node.asked) == ("n1", "49170", None, [])
    done = await cleaned(parts, confirm=True)
    assert ([one.session for one in done.sessions], done.outcomes) == (["old"], {"ended": 1})
    assert node.asked == [("DELETE", "/api/sessions/old", {}, None)]
    row = await parts.registry.session("old")
    assert row is not None
    assert (row.ended, row.reason) == ("superseded", "superseded by new")
    assert (await cleaned(parts, dry_run=True)).sessions == ()


async def test_one_that_has_lost_its_connection_goes_and_one_that_shows_a_code_stays(
    parts: Resources, node: ContractWorker
) -> None:
    parts = await watched(
        parts,
        node,
        lost=Session("disconnected", "49170", 7),
        scans=Session("qr_scanning", "49170", 7),
        alone=Session("disconnected", "49171", 7),
        stays=connected("49170"),
    )
    plan = await cleaned(parts, dry_run=True)
    assert [(one.session, one.stays, one.why) for one in plan.sessions] == [
        ("lost", "stays", "disconnected; stays is connected with its phone")
    ]
    assert (await cleaned(parts, confirm=True)).outcomes == {"ended": 1}
    assert sorted(node.sessions) == ["alone", "scans", "stays"]


async def test_what_its_worker_does_not_close_is_told(parts: Resources, node: ContractWorker) -> None:
    parts = await watched(parts, node, old=connected("49170"), new=connected("49170"))
    node.refuses = (500, {})
    assert (await cleaned(parts, confirm=True)).outcomes == {"not_closed": 1}


async def test_with_allow_all_that_are_connected_stay(parts: Resources, node: ContractWorker) -> None:
    parts = await watched(parts, node, old=connected("49170"), new=connected("49170"))
    sessions = replace(parts.policies.sessions, one_phone=OnePhone("allow"))
    parts = replace(parts, policies=replace(parts.policies, sessions=sessions))
    assert (await cleaned(parts, dry_run=True)).sessions == ()


async def test_it_is_confirmed_first(parts: Resources) -> None:
    unsure = Problem(ProblemKind.INVALID, "set confirm to true, or look first with dry_run set to true")
    assert await clean_duplicates(parts, CleanDuplicates()) == unsure
