"""Two accounts of one phone, on workers as they are, through the whole of Sluice: one of them is left."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Build
from tests.contract.fleet import Fleet
from tests.contract.running import log_in
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def another_account(made: Fleet, session: str, phone: str) -> None:
    """Of workspace 0, whose first account has that phone already: its code is scanned with it."""
    await made.app.add(session, 0, status="qr_scanning")
    for number in range(len(made.workers)):  # whichever gets it
        log_in(made.profiles(number), session, 0, phone)
    created = await made.ask("POST", "/api/sessions", session_id=session, workspace_id=0, account_id=2)
    assert created.status_code == 200, created.text


async def test_it_is_told_where_existing_workers_may_not_be_asked_to_close_one(two: Fleet) -> None:
    await another_account(two, "new", "490")

    async def told() -> bool:
        said = "session s0 at w0 is connected with the phone of session new: end it: sluice sessions clean --duplicates"
        return any(one.startswith(said) for one in (await two.status())["messages"])

    await until(told, timeout=60)
    assert (await two.workers[0].status("s0")) == "connected"


async def test_with_oldest_the_newer_one_is_closed_and_laravel_never_takes_it_for_connected(build: Build) -> None:
    async with build(one_phone={"keep": "oldest", "enforce": True}) as made:
        await made.restored()
        await made.begin(0, "s0", "490")
        await made.connected("s0")
        await another_account(made, "new", "490")

        async def it_is_closed() -> bool:
            statuses = [await worker.status("new") for worker in made.workers]
            return statuses == [None, None] and (await made.app.account("new"))["status"] == "disconnected"

        await until(it_is_closed, timeout=30)
        marks = await made.app.shown("marks")
        assert not [mark for mark in marks if (mark["session_id"], mark["after"]) == ("new", "connected")]
        assert (await made.app.account("s0"))["status"] == "connected"
        assert await made.workers[0].status("s0") == "connected"


async def test_with_enforce_the_older_one_is_closed_at_its_worker_and_laravel_has_one_connected_account(
    build: Build,
) -> None:
    async with build(one_phone={"keep": "newest", "enforce": True}) as made:
        await made.restored()
        await made.begin(0, "s0", "490")
        await made.connected("s0")
        await another_account(made, "new", "490")

        async def one_is_left() -> bool:
            connected = [name for name, row in (await made.app.accounts()).items() if row["status"] == "connected"]
            told = [one for one in (await made.status())["messages"] if "s0" in one]
            return connected == ["new"] and not told and await made.workers[0].status("s0") is None

        await until(one_is_left, timeout=30)
        listed = (await made.ask("GET", "/api/sessions")).json()["sessions"]
        assert {row["session_id"]: row["status"] for row in listed}["new"] == "connected"
