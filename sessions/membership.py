"""A worker's place among the others.

        registered, beat answered
   out ───────────────────────────▶ in ──┐ beat answered: runs what the answer says
    ▲                               │ ▲  │
    └──── not registered (409) ─────┤ └──┘
    └──── no answer in time ────────┘
          all sessions are stopped, before others may have them

The lease is counted from the moment a beat was sent, by this machine's monotonic clock, and ends a margin early. So
whatever the network did meanwhile, the store still holds the lease for us while `fence_of` answers a number.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Set
from typing import Any

import httpx2
import orjson

from sessions.reconciler import Reconciler
from sluice.config import Signature
from sluice.http.call_signatures import sign_call
from sluice.observe.log import Log
from sluice.process.loops import Stop

log = Log("sessions.membership")

_FIRST_TIMEOUT = 2.0
_FIRST_PAUSE = 0.5
_DRAIN = 30.0

Answer = dict[str, Any]


class _NotRegistered(Exception):
    pass


class _NoAnswer(Exception):
    """The message says why."""


class Membership:
    """Keeps one worker registered at the gateway `base_url`, and runs exactly the sessions it is given.

    `start` and `stop` (see `Reconciler`) run beside the beats; `stop` must cease to act at once. `state(session)`
    answers state and phone for the next report. The lease must be well above 400 ms.
    """

    def __init__(
        self,
        base_url: str,
        signature: Signature,
        *,
        worker: str,
        url: str,
        capacity: int,
        start: Callable[[str, int], Awaitable[object]],
        stop: Callable[[str], Awaitable[object]],
        state: Callable[[str], tuple[str, str | None]],
    ) -> None:
        self.worker = worker
        self.instance = secrets.token_hex(8)
        self._url = url
        self._capacity = capacity
        self._signature = signature
        self._state = state
        self._sessions = Reconciler(worker, start, stop)
        self._http = httpx2.AsyncClient(base_url=base_url, trust_env=False)
        self._lease: float | None = None
        self._beat_every = _FIRST_TIMEOUT
        self._registered = False
        self._draining = False
        self._deadline = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._ended: dict[str, int] = {}
        self._outage = False

    def fence_of(self, session: str) -> int | None:
        """The fence under which this worker may act for the session at this very moment, else None.

        True even when the process was frozen meanwhile: ask before every act.
        """
        return self._sessions.fence_of(session) if time.monotonic() < self._deadline else None

    def end(self, session: str, fence: int) -> None:
        """A person ended it here, under this fence: it is stopped, and forgotten with the next beat.

        It may have been placed here so lately that no beat has told of it yet.
        """
        self._ended[session] = fence
        self._sessions.end(session)

    async def run(self, stop: Stop) -> None:
        """Until stopped; then stops the sessions, leaving them to others only after that. Takes 30 s at most."""
        try:
            while not stop.requested:
                await stop.sleep(await self.run_once())
            await self._deregister()
        finally:
            self._demote()
            if self._alarm:
                self._alarm.cancel()
            await self._http.aclose()

    async def run_once(self) -> float:
        """Registers or beats, once. Answers the seconds until the next run."""
        try:
            if not self._registered:
                await self._sessions.settled(self._lease or 0.0)
                await self._register(self._capacity)
            await self._beat()
        except _NotRegistered:
            log.warning("membership.lost", worker=self.worker)
            self._demote()
            return self._beat_every / 5
        except _NoAnswer as reason:
            self._in_trouble(str(reason))
            return self._beat_every / 5 if self._lease else _FIRST_PAUSE
        if self._outage:
            log.info("membership.answered_again", worker=self.worker)
            self._outage = False
        return self._beat_every

    async def _register(self, capacity: int) -> None:
        fields = {"id": self.worker, "instance": self.instance, "url": self._url, "capacity": capacity}
        answer = await self._post("/_sluice/workers", fields, wanted={"lease", "beat"})
        self._lease, self._beat_every = float(answer["lease"]), float(answer["beat"])
        self._registered = True

    async def _beat(self) -> None:
        reports = {session: self._report(session, fence) for session, fence in self._sessions.running.items()}
        ended = dict(self._ended)
        sent = time.monotonic()
        fields = {"instance": self.instance, "sessions": reports, "gone": ended}
        answer = await self._post(f"/_sluice/workers/{self.worker}/beat", fields, wanted={"lease", "sessions"})
        lease = float(answer["lease"])
        deadline = sent + lease - max(lease / 6, 0.2)
        if time.monotonic() >= deadline:
            self._demote()
            raise _NoAnswer("the answer was read when the lease was over already")
        self._rely_on_lease(deadline)
        for session in ended:
            self._ended.pop(session, None)
        if not self._draining:
            self._sessions.run_exactly({s: fence for s, fence in answer["sessions"].items() if s not in self._ended})

    def _report(self, session: str, fence: int) -> dict[str, object]:
        state, phone = self._state(session)
        return {"fence": fence, "state": state, "phone": phone}

    def _rely_on_lease(self, deadline: float) -> None:
        self._registered = True
        self._deadline = deadline
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(deadline - time.monotonic(), self._lapse)

    def _lapse(self) -> None:
        log.warning("membership.lapsed", worker=self.worker, sessions=len(self._sessions.running))
        self._demote()

    def _demote(self) -> None:
        self._registered = False
        self._deadline = 0.0
        self._sessions.run_exactly({})

    async def _deregister(self) -> None:
        """Closes everything under leases that are still renewed, with no capacity for new ones; then lets go."""
        if not self._registered:
            self._demote()
            await self._sessions.settled(_DRAIN)
            return
        self._draining = True
        ends = time.monotonic() + _DRAIN
        await self._ignoring_outages(self._register(capacity=0))
        self._sessions.run_exactly({})
        while (
            not await self._sessions.settled(min(self._beat_every, ends - time.monotonic())) and time.monotonic() < ends
        ):
            await self._ignoring_outages(self._beat())
        if self._ended:
            await self._ignoring_outages(self._beat())
        await self._ignoring_outages(self._post(f"/_sluice/workers/{self.worker}/leave", {"instance": self.instance}))

    async def _ignoring_outages(self, call: Awaitable[object]) -> None:
        try:
            await call
        except _NotRegistered:
            pass
        except _NoAnswer as reason:
            self._in_trouble(str(reason))

    async def _post(self, path: str, fields: Answer, wanted: Set[str] = frozenset()) -> Answer:
        body = orjson.dumps(fields)
        signed = [(b"Content-Type", b"application/json"), *sign_call(self._signature, "POST", path, body, time.time())]
        try:
            async with asyncio.timeout(self._beat_every):
                response = await self._http.post(path, content=body, headers=signed)
        except TimeoutError:
            raise _NoAnswer(f"no answer within {self._beat_every:g}s") from None
        except httpx2.HTTPError as error:
            raise _NoAnswer(str(error) or type(error).__name__) from error
        if response.status_code == 409:
            raise _NotRegistered
        if response.status_code != 200:
            raise _NoAnswer(f"{response.status_code} {response.text[:200]}")
        return _object(response.content, wanted)

    def _in_trouble(self, reason: str) -> None:
        if not self._outage:
            log.warning("membership.no_answer", worker=self.worker, gateway=str(self._http.base_url), reason=reason)
        self._outage = True


def _object(body: bytes, wanted: Set[str]) -> Answer:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or not wanted <= answer.keys():
        raise _NoAnswer("the answer is not the one of a gateway; is the address right?")
    return answer
