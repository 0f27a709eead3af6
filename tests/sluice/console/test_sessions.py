from __future__ import annotations

import pytest

from gateway.resources import Resources
from sessions.registry import ObservedSession, Worker
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.actions.sessions import ListSessions, SessionList, list_sessions

pytestmark = pytest.mark.anyio


async def page(parts: Resources, after: str, limit: int = 1000) -> SessionList:
    found = await list_sessions(parts, ListSessions(limit=limit, after=after))
    assert isinstance(found, SessionList)
    return found


async def test_pages_lead_to_every_session(parts: Resources) -> None:
    names = [f"s{i:04}" for i in range(3000)]
    running = {name: ObservedSession("connected") for name in names}
    await parts.registry.observe(Worker("w", "1", "http://w:3000", 5000), running)
    found = await page(parts, "")
    seen = {one.session for one in found.sessions}
    assert len(seen) < 3000
    assert [one.session for one in found.sessions] == sorted(seen)
    while found.after is not None:
        found = await page(parts, found.after)
        seen |= {one.session for one in found.sessions}
    assert sorted(seen) == names


async def test_few_sessions_are_one_page(parts: Resources) -> None:
    await parts.registry.want({"b": {}, "a": {}})
    found = await page(parts, "", limit=1)
    assert ([one.session for one in found.sessions], found.after) == (["a", "b"], None)


@pytest.mark.parametrize("after", ["x", "-1", "1 ", "٣"])
async def test_a_place_that_no_answer_named_is_refused(parts: Resources, after: str) -> None:
    assert await list_sessions(parts, ListSessions(after=after)) == Problem(
        ProblemKind.INVALID, "after is what the answer before this one says, or empty"
    )
