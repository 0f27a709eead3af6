"""What a send is answered that its session cannot take now."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from sessions.states import STATES
from sessions.worker.login import NotConnected, NotOurs, SendUnknown, not_connected
from sessions.worker.messages import done

pytestmark = pytest.mark.anyio

OF_A_PERSON = {"qr_scanning", "logged_out", "failed"}


async def answer_to(error: Exception) -> HTTPException:
    async def sending() -> None:
        raise error

    with pytest.raises(HTTPException) as told:
        await done(sending())
    return told.value


@pytest.mark.parametrize("state", sorted(set(STATES) - {"connected"}))
async def test_a_session_that_comes_back_by_itself_is_asked_again_and_one_that_needs_a_person_is_not(
    state: str,
) -> None:
    told = await answer_to(not_connected(state))
    assert told.detail == f"the session is {state}, not connected"
    if state in OF_A_PERSON:
        assert (told.status_code, told.headers) == (400, None)
    else:
        assert (told.status_code, told.headers) == (503, {"Retry-After": "5"})


async def test_another_workers_session_is_looked_for_there_and_an_unknown_outcome_is_said() -> None:
    assert (await answer_to(NotOurs("another worker has the session"))).status_code == 421
    assert (await answer_to(NotConnected("it shows no code"))).status_code == 400
    assert (await answer_to(SendUnknown("no answer"))).status_code == 500
