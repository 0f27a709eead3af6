"""What a gateway sees of sessions in passing: events that come of them, and sends that go to them.

In memory, and told to the store now and then, so that no request and no webhook costs more for it than a moment's
note. What a gateway that is killed has not told yet is lost: a session then counts as silent only if no other event of
it comes either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

from sessions.watched import Seen, Watched
from sluice.process.cache import Latest

MAX_BYTES = 8 * 2**20
"""Of what is kept of events, and as much of sends; what was kept longest ago goes first, and is not told."""
EVERY = 1.0
_SLOWEST = 15.0
_AT_ONCE = 200
_SENDS = 400
"""Bytes of what is kept of its sends."""
_FAILURES = 3
"""A single send may fail for its recipient's sake, and brings no event."""


class Sending:
    """One send that is in flight, or has just been."""

    __slots__ = ("began", "proven", "session")

    def __init__(self, session: str) -> None:
        self.session = session
        self.began = time.monotonic()
        self.proven = False
        """An event of its session came after it had begun."""


class _Unproven:
    __slots__ = ("failed", "failures", "sends", "sent")

    def __init__(self) -> None:
        self.sends: list[Sending] = []
        self.sent: float | None = None
        """The first send that should have brought an event (`time.monotonic`)."""
        self.failed = 0.0
        self.failures = 0

    @property
    def is_over(self) -> bool:
        return not self.sends and self.sent is None and not self.failures

    def is_sending_since(self, moment: float) -> bool:
        return any(sending.began < moment for sending in self.sends)


class Traffic:
    """Of one process."""

    def __init__(self) -> None:
        self._heard: Latest[str, float] = Latest(MAX_BYTES)
        self._unproven: Latest[str, _Unproven] = Latest(MAX_BYTES)
        self._told_at = 0.0

    def heard(self, session: str) -> None:
        """An event of it came."""
        self._heard.keep(session, time.monotonic(), len(session))
        known = self._unproven.get(session)
        if known is not None:
            self._prove(session, known)

    def begin(self, session: str) -> Sending:
        """A message goes to its worker. `end` is due."""
        sending = Sending(session)
        known = self._unproven.get(session)
        if known is None:
            known = _Unproven()
            self._unproven.keep(session, known, len(session) + _SENDS)
        known.sends.append(sending)
        return sending

    def end(self, sending: Sending, status: int | None) -> None:
        """`status`: of the worker's answer; None: none came. What it took (2xx) must bring an event, and what failed
        for no fault of the request, several times."""
        known = self._unproven.get(sending.session)
        if known is None or sending not in known.sends:
            return
        known.sends.remove(sending)
        if not sending.proven and status is not None and 200 <= status < 300:
            known.sent = min(known.sent or sending.began, sending.began)
        elif not sending.proven and (status is None or status >= 500 or status == 408):
            known.failed = known.failed or sending.began
            known.failures += 1
            if known.failures >= _FAILURES:
                known.sent = min(known.sent or known.failed, known.failed)
        if known.is_over:
            self._unproven.drop(sending.session)

    def is_sending(self, session: str) -> bool:
        known = self._unproven.get(session)
        return known is not None and bool(known.sends)

    async def tell(self, to: Watched, silent: float | None) -> None:
        """To the store, a few times within `silent` (seconds): what is new. Raises StoreAway and StoreRefused."""
        now = time.monotonic()
        pace = _SLOWEST if silent is None else min(silent / 10, _SLOWEST)
        due = now - self._told_at >= pace
        sending = [
            name for name, known in self._unproven.items() if any(now - one.began > EVERY for one in known.sends)
        ]
        if not due and not sending:
            return
        names = {*sending, *(self._names_to_tell(now, pace) if due else ())}
        going = iter(names)
        while some := list(islice(going, _AT_ONCE)):
            await self._tell(to, some, now, pace)
        if due:
            self._told_at = now

    def _names_to_tell(self, now: float, pace: float) -> Iterator[str]:
        yield from (name for name, _ in self._heard.items())
        yield from [name for name, known in self._unproven.items() if _is_due(known, now, pace)]

    async def _tell(self, to: Watched, names: list[str], now: float, pace: float) -> None:
        heard = {name: moment for name in names if (moment := self._heard.get(name)) is not None}
        sent: dict[str, float] = {}
        for name in names:
            known = self._unproven.get(name)
            if known is not None and known.sent is not None and _is_due(known, now, pace):
                sent[name] = known.sent
        await to.see(
            [
                Seen(name, _past(heard.get(name), now), _past(sent.get(name), now), self.is_sending(name))
                for name in names
            ]
        )
        for name, moment in heard.items():
            if self._heard.get(name) == moment:
                self._heard.drop(name)
        for name, moment in sent.items():
            known = self._unproven.get(name)
            if known is not None and known.sent == moment:
                known.sent, known.failures, known.failed = None, 0, 0.0
                if known.is_over:
                    self._unproven.drop(name)

    def _prove(self, session: str, known: _Unproven) -> None:
        for sending in known.sends:
            sending.proven = True
        known.sent, known.failures, known.failed = None, 0, 0.0
        if known.is_over:
            self._unproven.drop(session)


def _is_due(known: _Unproven, now: float, pace: float) -> bool:
    """Its event may have come to another gateway, which tells of it within `pace`."""
    return known.sent is not None and now - known.sent >= 2 * pace


def _past(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)
