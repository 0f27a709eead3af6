"""Unmodified workers on one folder of logins (`sessions.shared_profiles`): a session that one of them is about to start
by itself is not created on another one meanwhile, nor the other way round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.contract.conftest import Build
from tests.contract.fleet import TOKEN, Fleet
from tests.contract.running import log_in
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_a_session_that_a_worker_started_anew_has_still_to_come_to_is_not_created_on_another_one(
    build: Build, tmp_path: Path
) -> None:
    async with _sharing(build, tmp_path, ["s0", "s1", "s2"]) as made:
        await _until_lapsed(made, 0, ["s0", "s1", "s2"])
        await made.workers[0].start()
        await until(lambda: _begun(made, 0), timeout=20, what="w0 to begin with its first session")
        answers = await asyncio.gather(*(_create(made, session) for session in ("s1", "s2")))
        await made.restored(0)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert made.phones.ran_twice() == []
        for session in ("s0", "s1", "s2"):
            await made.connected(session)


@pytest.mark.parametrize("call", ["", "/s1/reconnect", "/s1/regenerate-qr"])
async def test_a_worker_of_its_own_folder_opens_no_second_browser_for_what_it_has_still_to_come_to(
    build: Build, tmp_path: Path, call: str
) -> None:
    async with _sharing(build, tmp_path, ["s0", "s1"], shared_profiles=False) as made:
        await _until_lapsed(made, 0, ["s0", "s1"])
        await made.workers[0].start()
        await until(lambda: _begun(made, 0), timeout=20, what="w0 to begin with its first session")
        answer = await made.ask("POST", f"/api/sessions{call}", session_id="s1", workspace_id=1, account_id=1)
        await made.restored(0)
        assert answer.status_code == 200
        assert made.phones.ran_twice() == []
        await made.connected("s1")


async def test_a_person_is_refused_what_its_worker_has_still_to_come_to(build: Build, tmp_path: Path) -> None:
    async with _sharing(build, tmp_path, ["s0", "s1"]) as made:
        await _until_lapsed(made, 0, ["s0", "s1"])
        await made.workers[0].start()
        await until(lambda: _answers(made, "w0"), timeout=20, what="w0 to be seen again")
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        asked = {"workspace": "1"}
        answer = await made.http.post("/_sluice/api/created/s1", json=asked, headers=bearer)
        await made.restored(0)
        assert answer.status_code == 409, answer.text
        assert made.phones.ran_twice() == []


async def test_what_cannot_be_kept_from_running_twice_is_told(build: Build, tmp_path: Path) -> None:
    """A worker that is alive and answers nobody for longer than its lease."""
    async with _sharing(build, tmp_path, ["s0"]) as made:
        await made.connected("s0")
        made.workers[0].freeze()
        await until(lambda: _is_unowned(made), timeout=20, what="its lease to end")
        assert (await _create(made, "s0")).status_code == 200
        made.workers[0].thaw()

        async def told() -> bool:
            messages = (await made.status())["messages"]
            return any("s0" in one and "w0" in one and "w1" in one for one in messages)

        await until(told, timeout=20, what="status to name the session and both workers")
        assert len(made.phones.ran_twice()) == 1


async def test_a_worker_started_anew_is_not_told_of_a_session_that_is_being_created_on_another_one(
    build: Build, tmp_path: Path
) -> None:
    async with _sharing(build, tmp_path, ["s0"]) as made:
        await _until_lapsed(made, 0, ["s0"])
        creating = asyncio.create_task(_create(made, "s0"))
        await until(lambda: made.phones.running("s0"), timeout=20, what="w1 to open a browser")
        await made.workers[0].start()
        await made.restored(0)
        assert (await creating).status_code == 200
        assert [browser.worker for browser in made.phones.running("s0")] == ["w1"]
        assert made.phones.ran_twice() == []
        await made.connected("s0")


async def test_a_session_that_is_in_a_workers_first_list_is_not_created_on_another_one(
    build: Build, tmp_path: Path
) -> None:
    """The create comes before that worker was ever seen to list anything."""
    sessions = [f"s{number}" for number in range(6)]
    async with _sharing(build, tmp_path, sessions, start=False) as made:
        await made.start_all()
        await until(lambda: _begun(made, 0) or _begun(made, 1), timeout=20, what="one of them to begin")
        answers = await asyncio.gather(*(_create(made, session) for session in sessions))
        await made.restored()
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert made.phones.ran_twice() == []
        for session in sessions:
            await made.connected(session)


async def test_a_worker_is_not_told_to_start_what_was_created_on_it_before_it_had_its_list(
    build: Build, tmp_path: Path
) -> None:
    async with _sharing(build, tmp_path, ["s0", "s1"], start=False) as made:
        await made.app.set(slow_active=4.0)
        await made.workers[0].start()
        await until(lambda: _answers(made, "w0"), timeout=20, what="w0 to be seen")
        assert (await _create(made, "s0")).status_code == 200
        await made.restored(0)
        assert made.phones.ran_twice() == []
        for session in ("s0", "s1"):
            await made.connected(session)


@asynccontextmanager
async def _sharing(
    build: Build, folder: Path, sessions: Sequence[str], *, start: bool = True, shared_profiles: bool = True
) -> AsyncIterator[Fleet]:
    """Two workers, each browser of which takes 1.6 s to open. With `start` the first one has all the sessions."""
    profiles = folder / "profiles"
    arguments = ("--profiles", str(profiles), "--scale", "0.2")
    async with build(start=False, shared_profiles=shared_profiles, arguments=arguments) as made:
        if start:
            await made.workers[0].start()
            await until(lambda: _answers(made, "w0"), timeout=20, what="w0 to be seen")
        for number, session in enumerate(sessions):
            await made.app.add(session, number, status="connected", phone_number=f"49{number}")
            log_in(profiles, session, number, f"49{number}")
            if start:
                assert (await _create(made, session)).status_code == 200
        if start:
            await made.workers[1].start()
            await until(lambda: _answers(made, "w1"), timeout=20, what="w1 to be seen")
        yield made


async def _until_lapsed(made: Fleet, number: int, sessions: Sequence[str]) -> None:
    """This worker, which has these sessions, is away for longer than its lease."""
    for session in sessions:
        await made.connected(session)
    await made.workers[number].terminate()
    await until(lambda: _is_unowned(made), timeout=20, what="its lease to end")


async def _is_unowned(made: Fleet) -> bool:
    answer = await made.http.get("/_sluice/api/sessions", headers={"Authorization": f"Bearer {TOKEN}"})
    return all(row["worker"] is None for row in answer.json()["sessions"])


async def _answers(made: Fleet, worker: str) -> bool:
    rows = (await made.status())["existing"]
    return any(row["worker"] == worker and row["answered"] and row["why"] is None for row in rows)


def _begun(made: Fleet, number: int) -> bool:
    pid = made.workers[number].pid
    return any(one.pid == pid for one in made.phones.browsers.values())


async def _create(made: Fleet, session: str) -> httpx2.Response:
    fields = {"session_id": session, "workspace_id": int(session[1:]), "account_id": 1}
    return await made.ask("POST", "/api/sessions", **fields)
