"""Requests wait for a session that its existing worker, started again, has not restored yet.

Such a worker answers 404 until it has begun with a session, and refuses sends with 400 until the login is back; of a
bulk-send it then says that every message failed. Laravel takes all of that as final, and the message is lost. Whether a
session is being restored is asked of its worker, as a 404 may be about something else.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

from gateway.problems import Refusal
from gateway.request import json_if_any
from gateway.workers.connections import Answer, NoAnswer
from gateway.workers.holding import Holding
from gateway.workers.reach import Reach
from gateway.workers.request import WorkerRequest, own_get, status_path
from gateway.workers.restoring import Restoring
from sluice.http import client as http1
from sluice.process.cache import Latest

_State = Literal["gone", "restoring", "runs"]
_SENDS = frozenset({"send", "send_media", "bulk_send"})
_ANSWER_WITHIN = 2.0  # seconds
_STOPS_WITHIN = 5.5
"""Seconds: a worker that is told to end closes its sessions one after the other, says 404 of those, lists them no more,
and is gone; PM2 kills it after 5 s."""
_GONE_FOR = 10.0
"""Seconds for which a session is known to have been closed by a worker that goes on."""
_NOT_SEEN = frozenset((401, 403, 404))
"""Of what is not begun, or asked for with a key that stands where we did not look."""
_MAX_BYTES = 2**20


class UntilRestored:
    def __init__(self, reach: Reach, holding: Holding, restoring: Restoring) -> None:
        self._reach = reach
        self._holding = holding
        self._restoring = restoring
        self._gone: Latest[str, float] = Latest(_MAX_BYTES)
        """Until when (`time.monotonic`) nobody need wait for the end of its worker again."""

    def forget(self, session: str) -> None:
        """It is created, or somebody else has it."""
        self._gone.drop(session)

    def forget_all(self) -> None:
        self._gone.clear()

    async def answer(self, request: WorkerRequest) -> Answer:
        """As `Reach.answer`, but not what a worker says of a session that it is restoring: after a bounded time that
        is a Refusal 503, too."""
        if request.call == "bulk_send" and await self._state(request, hold=True) == "restoring":
            return await self._later(request)
        answer = await self._reach.answer(request)
        try:
            state = await self.about(request, answer)
        except BaseException:
            answer.close()
            raise
        if state == "gone":
            return answer
        answer.close()
        if state == "runs":  # it may have been restored since, and what was refused is safe to repeat
            reached = await self._reach.attempt(request)
            if isinstance(reached, Answer):
                return reached
        return await self._later(request)

    async def begun(self, request: WorkerRequest) -> None:
        """Returns once its worker has begun with the session, or does not restore it: what opens a browser on its login
        before would open one beside that of the worker itself. Raises Refusal 503 after a bounded time, and ClientGone.
        """
        if request.json is None:  # the key is there
            request = replace(request, json=json_if_any(request.outgoing.body or b""))
        if not await self._is_to_come(request):
            return
        with self._holding.waiting(request.session, request.size, self._reach.hold, request.exchange) as waiting:
            while await waiting.again():
                if not await self._is_to_come(request):
                    return
        raise _not_restored(request)

    async def is_restoring(self, request: WorkerRequest) -> bool:
        """Whether its worker restores the session right now. Raises ClientGone."""
        return await self._state(request) == "restoring"

    async def about(self, request: WorkerRequest, answer: Answer) -> _State:
        """How it is with the session of which this is said; "gone": its worker means it. Raises ClientGone."""
        if not _may_be_restored(request, answer):
            return "gone"
        try:
            await answer.whole(_ANSWER_WITHIN)
            state = await self._state(request)
        except http1.UpstreamError:
            return "gone"  # whoever gives the answer meets that, too
        return await self._once_more(request) if state == "gone" else state

    async def _later(self, request: WorkerRequest) -> Answer:
        with self._holding.waiting(request.session, request.size, self._reach.hold, request.exchange) as waiting:
            while await waiting.again():
                if await self._state(request) == "restoring":
                    continue
                reached = await self._reach.attempt(request)
                if isinstance(reached, Answer):
                    return reached
        raise _not_restored(request)

    async def _is_to_come(self, request: WorkerRequest) -> bool:
        """In this order: once the worker has begun with all, what it says of one is the last word. Raises Refusal where
        nobody is there to be asked, in a while."""
        if (await self._get(request, "/cleanup/stats", hold=True))[0] != 503:
            return False
        status, worker, _ = await self._get(request, status_path(request.session))
        return status in _NOT_SEEN and await self._restoring.missing(request.session, worker) is not None

    async def _state(self, request: WorkerRequest, *, hold: bool = False) -> _State:
        """As its worker says; "gone" where that does not answer, too. `hold`: until there is one that does, as
        `Reach.answer` has it; Refusal then goes through."""
        state = await self._listed(request, hold=hold)
        if state != "gone":
            return state
        status, worker, _ = await self._get(request, "/cleanup/stats")  # 503 until all are begun
        if status != 503:
            return await self._listed(request)  # it may have been begun between the two questions
        return "restoring" if await self._restoring.missing(request.session, worker) is not None else "gone"

    async def _once_more(self, request: WorkerRequest) -> _State:
        """Of a session that its worker had a moment ago: "restoring" once that worker is gone, as it had closed the
        session to end. The first to have waited for that in vain has done so for all who ask soon."""
        session = request.session
        if self._is_gone(session) or not await self._restoring.had(session, _STOPS_WITHIN):
            return "gone"
        began = time.monotonic()
        with self._holding.waiting(session, request.size, _STOPS_WITHIN, request.exchange) as waiting:
            while await waiting.again():
                if self._is_gone(session):
                    return "gone"
                status, _, _ = await self._get(request, status_path(request.session))
                if status == 0:
                    return "restoring"
                state = await self._state(request)
                if state != "gone":
                    return state
        if time.monotonic() - began >= _STOPS_WITHIN:  # else there was no room to wait
            self._gone.keep(session, time.monotonic() + _GONE_FOR, session.__sizeof__())
        return "gone"

    def _is_gone(self, session: str) -> bool:
        until = self._gone.get(session)
        return until is not None and time.monotonic() < until

    async def _listed(self, request: WorkerRequest, *, hold: bool = False) -> _State:
        status, worker, body = await self._get(request, status_path(request.session), hold=hold)
        if status != 200:
            return "gone"
        return "restoring" if await self._restoring.logging_in(request.session, worker, body) is not None else "runs"

    async def _get(self, request: WorkerRequest, path: str, *, hold: bool = False) -> tuple[int, str, bytes]:
        """The status of its worker's answer, who that is, and the body; 0: it does not answer, or too much."""
        asking = WorkerRequest("other", request.session, own_get(request, path), None, _ANSWER_WITHIN, request.exchange)
        try:
            reached = await (self._reach.answer(asking) if hold else self._reach.attempt(asking))
        except NoAnswer:
            return 0, "", b""
        except Refusal:
            if hold:
                raise
            return 0, "", b""
        if not isinstance(reached, Answer):
            return 0, "", b""
        try:
            body = await reached.whole(_ANSWER_WITHIN) if reached.is_small else b""
            return reached.response.status, reached.worker, body
        except http1.UpstreamError:
            return 0, "", b""
        finally:
            reached.close()


def _not_restored(request: WorkerRequest) -> Refusal:
    detail = f"the worker of session {request.session} was started again, and has not restored it yet"
    return Refusal(503, detail, retry_after=b"5")


def _may_be_restored(request: WorkerRequest, answer: Answer) -> bool:
    """Whether it may be an answer of this kind, to a request that can be sent again."""
    status, outgoing = answer.response.status, request.outgoing
    if status != 404 and not (status == 400 and request.call in _SENDS):
        return False
    return answer.is_small and (outgoing.body is not None or outgoing.head.length == 0)
