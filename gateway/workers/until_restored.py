"""Requests wait for a session that its existing worker, started again, has not restored yet.

Such a worker answers 404 until it has begun with a session, and refuses sends with 400 until the login is back; of a
bulk-send it then says that every message failed. Laravel takes all of that as final, and the message is lost. Whether a
session is being restored is asked of its worker, as a 404 may be about something else.
"""

from __future__ import annotations

from typing import Literal

from gateway.problems import Refusal
from gateway.workers.connections import Answer, NoAnswer
from gateway.workers.holding import Holding
from gateway.workers.reach import Reach
from gateway.workers.request import WorkerRequest, own_get, status_path
from gateway.workers.restoring import Restoring
from sluice.http import client as http1

_State = Literal["gone", "restoring", "runs"]
_SENDS = frozenset({"send", "send_media", "bulk_send"})
_ANSWER_WITHIN = 2.0  # seconds
_STOPS_WITHIN = 2.0
"""Seconds: a worker that is told to end closes its sessions one after the other, says 404 of those, and is gone."""


class UntilRestored:
    def __init__(self, reach: Reach, holding: Holding, restoring: Restoring) -> None:
        self._reach = reach
        self._holding = holding
        self._restoring = restoring

    async def answer(self, request: WorkerRequest) -> Answer:
        """As `Reach.answer`, but not what a worker says of a session that it is restoring: after a bounded time that
        is a Refusal 503, too."""
        if request.call == "bulk_send" and await self._state(request, hold=True) == "restoring":
            return await self._later(request)
        answer = await self._reach.answer(request)
        if not _may_be_restored(request, answer):
            return answer
        try:
            await answer.whole(_ANSWER_WITHIN)
            state = await self._state(request)
        except http1.UpstreamError:
            return answer  # whoever gives it meets that, too
        except BaseException:
            answer.close()
            raise
        if state == "gone":
            try:
                state = await self._once_more(request)
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

    async def _later(self, request: WorkerRequest) -> Answer:
        with self._holding.waiting(request.session, request.size, self._reach.hold, request.exchange) as waiting:
            while await waiting.again():
                if await self._state(request) == "restoring":
                    continue
                reached = await self._reach.attempt(request)
                if isinstance(reached, Answer):
                    return reached
        detail = f"the worker of session {request.session} was started again, and has not restored it yet"
        raise Refusal(503, detail, retry_after=b"5")

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
        session to end."""
        if not await self._restoring.had(request.session):
            return "gone"
        with self._holding.waiting(request.session, request.size, _STOPS_WITHIN, request.exchange) as waiting:
            while await waiting.again():
                status, _, _ = await self._get(request, status_path(request.session))
                if status == 0:
                    return "restoring"
                state = await self._state(request)
                if state != "gone":
                    return state
        return "gone"

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


def _may_be_restored(request: WorkerRequest, answer: Answer) -> bool:
    """Whether it may be an answer of this kind, to a request that can be sent again."""
    status, outgoing = answer.response.status, request.outgoing
    if status != 404 and not (status == 400 and request.call in _SENDS):
        return False
    return answer.is_small and (outgoing.body is not None or outgoing.head.length == 0)
