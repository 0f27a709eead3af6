"""What a person decides of a session, on a real store, and each mistake with its message."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.resources import Resources
from sessions.policies import ExistingWorker
from sessions.registry import Registry, Unknown
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.actions.session_moves import (
    ForgetSession,
    ForgottenSession,
    MovedSession,
    MoveSession,
    ReleaseSession,
    forget,
    move,
    release,
)
from sluice.console.actions.sessions import ListSessions, Session, SessionList, ShowSession, list_sessions, show
from sluice.console.audit import Actor, path_of, perform
from sluice.console.operations import FORGET_SESSION
from tests.sessions.making import beat, keep, listed, owner, register, run, worker
from tests.waiting import until

pytestmark = pytest.mark.anyio

NAMED = tuple(ExistingWorker(f"http://{name}:3000", name=name) for name in ("w1", "w2"))


@pytest.fixture
def parts(parts: Resources) -> Resources:
    """With two existing workers, and a lease that lasts as long as a test."""
    sessions = replace(parts.policies.sessions, workers=NAMED)
    return replace(parts, policies=replace(parts.policies, sessions=sessions), registry=Registry(parts.store, 60.0))


def shared(parts: Resources) -> Resources:
    sessions = replace(parts.policies.sessions, shared_profiles=True)
    return replace(parts, policies=replace(parts.policies, sessions=sessions))


async def observed(parts: Resources, name: str, *sessions: str) -> None:
    registry = parts.registry
    await registry.observe(worker(name), listed(sessions), await registry.time())


async def left(parts: Resources, name: str, *sessions: str) -> None:
    """An existing worker that had these, and does not list them any more."""
    await observed(parts, name, *sessions)

    async def are_missing() -> bool:
        await observed(parts, name)
        rows = [await parts.registry.session(session) for session in sessions]
        return all(row and row.missing_since for row in rows)

    await until(are_missing)


def conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)


async def shown(parts: Resources, session: str) -> Session:
    found = await show(parts, ShowSession(session))
    assert isinstance(found, Session)
    return found


async def lost(parts: Resources, name: str) -> bool:
    return any(one.worker == name and one.beat_left <= 0 for one in await parts.registry.workers())


async def names(parts: Resources, **filters: object) -> list[str]:
    found = await list_sessions(parts, ListSessions(**filters))  # type: ignore[arg-type]
    assert isinstance(found, SessionList)
    return [one.session for one in found.sessions]


# --- forget


async def test_an_orphan_is_forgotten_for_good_and_audited(parts: Resources) -> None:
    await parts.registry.want({"s1": {}})
    actor = Actor("me", "here", "command line")
    request = ForgetSession("s1", confirm=True)
    assert await perform(FORGET_SESSION, parts, request, actor, print) == ForgottenSession(True, None, False)
    assert await parts.registry.owner_of("s1") == Unknown()
    (line,) = path_of(parts.policies).read_text().splitlines()
    assert orjson.loads(line)["request"] == {"session": "s1", "confirm": True}


async def test_a_worker_of_ours_stops_it_before_it_is_forgotten(parts: Resources) -> None:
    await register(parts.registry, "a")
    held = await run(parts.registry, "a", "s1")
    assert await forget(parts, ForgetSession("s1", confirm=True)) == ForgottenSession(True, "a", True)
    assert await beat(parts.registry, "a", held) == {}
    assert await parts.registry.owner_of("s1") == Unknown()


async def test_what_an_existing_worker_had_and_does_not_list_is_forgotten(parts: Resources) -> None:
    await left(parts, "w1", "s1")
    assert await forget(parts, ForgetSession("s1", confirm=True)) == ForgottenSession(True, "w1", False)
    assert await parts.registry.owner_of("s1") == Unknown()


async def test_what_an_existing_worker_lists_would_come_back(parts: Resources) -> None:
    await observed(parts, "w1", "s 1")
    assert await forget(parts, ForgetSession("s 1", confirm=True)) == conflict(
        "w1 runs s 1 and lists it, so it would come back: send DELETE /api/sessions/s%201 to the gateway, which has it "
        "closed there and then forgets it"
    )


async def test_forgetting_must_be_confirmed_or_only_looked_at(parts: Resources) -> None:
    await parts.registry.want({"s1": {}})
    assert await forget(parts, ForgetSession("s1")) == Problem(
        ProblemKind.INVALID, "set confirm to true, or look first with dry_run set to true"
    )
    assert await forget(parts, ForgetSession("s1", dry_run=True)) == ForgottenSession(False, None, False)
    assert await names(parts) == ["s1"]


# --- move and release


async def test_it_moves_when_its_worker_has_stopped_it(parts: Resources) -> None:
    await register(parts.registry, "a")
    held = await run(parts.registry, "a", "s1")
    await register(parts.registry, "b")
    assert await move(parts, MoveSession("s1", "b", dry_run=True)) == MovedSession(False, "a", None, True, False, False)
    found = await move(parts, MoveSession("s1", "b"))
    assert found == MovedSession(True, "a", "a", True, False, False)
    assert await beat(parts.registry, "a", held) == {}
    await parts.registry.beat("a", "1", {}, {}, held)
    assert (await owner(parts.registry, "s1")).worker == "b"
    assert [line.who for line in (await shown(parts, "s1")).history if line.what == "to move to b"] == ["a person"]


async def test_released_it_goes_to_whoever_has_room(parts: Resources) -> None:
    await register(parts.registry, "a")
    held = await run(parts.registry, "a", "s1")
    await register(parts.registry, "b")
    found = await release(parts, ReleaseSession("s1"))
    assert isinstance(found, MovedSession)
    assert (found.moved, found.left, found.stops_first) == (True, "a", True)
    await beat(parts.registry, "a", held)
    await parts.registry.beat("a", "1", {}, {}, held)
    await keep(parts.registry)
    now = await owner(parts.registry, "s1")
    assert now.worker in ("a", "b")
    assert now.fence > held["s1"]


async def test_a_login_on_another_disk_is_left_behind_only_by_force(parts: Resources) -> None:
    await left(parts, "w1", "s1")
    await observed(parts, "w2")
    stays = (
        "the login of s1 lies on the disk of w1 and stays there, so on {} it needs a new QR code: force moves it all "
        "the same; where all workers reach the same profiles, set sessions.shared_profiles: true"
    )
    assert await move(parts, MoveSession("s1", "w2")) == conflict(stays.format("w2"))
    assert await release(parts, ReleaseSession("s1")) == conflict(stays.format("another worker"))
    found = await move(parts, MoveSession("s1", "w2", force=True))
    assert isinstance(found, MovedSession)
    assert (found.moved, found.left, found.login_stays, found.starts_by_create) == (True, "w1", True, True)
    assert (await shown(parts, "s1")).last_owner == "w2"


async def test_where_all_reach_the_same_profiles_no_force_is_needed(parts: Resources) -> None:
    await left(parts, "w1", "s1")
    await register(parts.registry, "a")
    found = await move(shared(parts), MoveSession("s1", "a"))
    assert isinstance(found, MovedSession)
    assert (found.moved, found.worker, found.login_stays) == (True, "a", False)


async def test_an_existing_worker_does_not_find_the_logins_of_ours(parts: Resources) -> None:
    await register(parts.registry, "a")
    await run(parts.registry, "a", "s1")
    await observed(parts, "w2")
    refused = await move(parts, MoveSession("s1", "w2"))
    assert isinstance(refused, Problem)
    assert refused.message.startswith(
        "the login of s1 lies on the disk of a and stays there, so on w2 it needs a new QR"
    )
    found = await move(parts, MoveSession("s1", "w2", force=True))
    assert found == MovedSession(True, "a", "a", True, True, True)


@pytest.mark.parametrize("force", [True, False])
async def test_what_an_existing_worker_runs_stays_there(parts: Resources, force: bool) -> None:
    await observed(parts, "w1", "s1")
    await observed(parts, "w2")
    runs = conflict(
        "w1 runs s1, or is about to, and knows nothing of Sluice, so nobody can tell it to stop: close it there first "
        "(DELETE http://w1:3000/api/sessions/s1, with its api_key)"
    )
    assert await move(parts, MoveSession("s1", "w2", force)) == runs
    assert await release(shared(parts), ReleaseSession("s1", force)) == runs


async def test_where_it_is_already_nothing_moves(parts: Resources) -> None:
    await observed(parts, "w1", "s1")
    assert await move(parts, MoveSession("s1", "w1")) == MovedSession(False, "w1", "w1", False, False, False)


async def test_a_worker_that_cannot_take_it_is_refused(parts: Resources) -> None:
    await parts.registry.want({"s1": {}})
    assert await move(parts, MoveSession("s1", "b\x1b")) == Problem(
        ProblemKind.NOT_FOUND, 'there is no worker "b\\u001b"; there are none'
    )
    await register(parts.registry, "a", capacity=0)
    await parts.registry.observe(worker("w1"), {}, await parts.registry.time())
    assert await move(parts, MoveSession("s1", "b")) == Problem(
        ProblemKind.NOT_FOUND, 'there is no worker "b"; there are a, w1'
    )
    assert await move(parts, MoveSession("s1", "a")) == conflict(
        "a is full (0 of 0): choose another (sluice status), or give it more room"
    )
    await parts.registry.beat("a", "1", {}, {}, load={"memory": 0.95})
    assert await move(parts, MoveSession("s1", "a")) == conflict(
        "a is full (memory 95%, CPU 0%): choose another (sluice status), or give it more room"
    )
    await parts.registry.beat("a", "1", {}, {}, draining=True)
    assert await move(parts, MoveSession("s1", "a")) == conflict(
        "a is draining and takes no session: choose another (sluice status)"
    )
    away = replace(parts, registry=Registry(parts.store, 0.001))
    await register(away.registry, "c")
    await until(lambda: lost(parts, "c"))
    assert await move(parts, MoveSession("s1", "c")) == conflict(
        "c does not answer: start it, or choose another (sluice status)"
    )


@pytest.mark.parametrize("action", [forget, move, release])
async def test_a_session_that_nobody_knows(parts: Resources, action: object) -> None:
    requests = {forget: ForgetSession("s9"), move: MoveSession("s9", "a"), release: ReleaseSession("s9")}
    assert await action(parts, requests[action]) == Problem(  # type: ignore[operator,index]
        ProblemKind.NOT_FOUND, 'there is no session "s9"; `sluice sessions list` shows them'
    )


# --- looking


async def test_a_list_may_be_of_a_workspace_a_worker_a_state_or_of_orphans(parts: Resources) -> None:
    await observed(parts, "w1", "s1", "s2")
    await parts.registry.want({"s3": {"workspace_id": 7}})
    assert await names(parts, workspace="7") == ["s3"]
    assert await names(parts, worker="w1") == ["s1", "s2"]
    assert await names(parts, state="connected") == ["s1", "s2"]
    assert await names(parts, orphaned=True) == ["s3"]
    assert await names(parts) == ["s1", "s2", "s3"]


async def test_a_session_tells_its_owner_its_history_and_what_it_waits_for(parts: Resources) -> None:
    await left(parts, "w1", "s1")
    found = await shown(parts, "s1")
    assert (found.worker, found.existing, found.orphaned) == ("w1", True, None)
    assert found.missing_since is not None
    assert [line.what for line in found.history][-1] == "missing at w1"
    await parts.registry.want({"s2": {}})
    assert (await shown(parts, "s2")).orphaned == "no worker of yours is live: start one (docs/workers.md)"
