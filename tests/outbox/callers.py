"""Who has messages sent: one caller for each session, one message after the other, so that their order is known.

Half of them are as Laravel's ServiceClient is: a 4xx is final, everything else is tried three times, without a key. The
others give each message an `Idempotency-Key`, and repeat it at any gateway until they have an answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import httpx2

from tests.nemesis.fleet import KEY
from tests.nemesis.history import History

_LARAVEL_WAITS, _LARAVEL_TRIES = 30.0, 3
_KEPT_AT_IT = 120.0
_PAUSE, _LARAVEL_PAUSES = 0.2, 0.5


class Callers:
    def __init__(self, gateways: Sequence[str], history: History, chance: random.Random) -> None:
        self.gateways = gateways
        self.history = history
        self.chance = chance
        self.answered = 0
        """Messages with which their callers are done."""

    async def run(self, sessions: Sequence[str], messages: int) -> None:
        """So many messages of each session. Each is a connection of its own, as each request of PHP is a process's."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx2.AsyncClient(trust_env=False, timeout=_LARAVEL_WAITS, limits=limits)
        async with self.http, asyncio.TaskGroup() as group:
            for number, session in enumerate(sessions):
                as_laravel = number % 2 == 0
                home = self.chance.randrange(len(self.gateways))
                group.create_task(self._send_all(session, messages, home, as_laravel=as_laravel))

    async def _send_all(self, session: str, messages: int, home: int, *, as_laravel: bool) -> None:
        for number in range(messages):
            text = text_of(session, number)
            self.history.note("begun", session=session, text=text, number=number)
            said = await (self._as_laravel if as_laravel else self._by_key)(session, text, home)
            status, identity = said if said is not None else (0, None)
            self.history.note("told", session=session, text=text, status=status, id=identity)
            self.answered += 1

    async def _as_laravel(self, session: str, text: str, home: int) -> tuple[int, str | None] | None:
        said = None
        for _ in range(_LARAVEL_TRIES):
            said = await self._ask(self.gateways[home], session, text, {})
            if said is not None and said[0] < 500:
                break
            await asyncio.sleep(_LARAVEL_PAUSES)
        return said

    async def _by_key(self, session: str, text: str, home: int) -> tuple[int, str | None] | None:
        headers = {"Idempotency-Key": text}
        said, until = None, asyncio.get_running_loop().time() + _KEPT_AT_IT
        while asyncio.get_running_loop().time() < until:
            said = await self._ask(self.gateways[home % len(self.gateways)], session, text, headers)
            if said is not None and said[0] < 500 and said[0] != 429:
                break
            home += 1
            await asyncio.sleep(_PAUSE)
        return said

    async def _ask(
        self, gateway: str, session: str, text: str, headers: dict[str, str]
    ) -> tuple[int, str | None] | None:
        """Status and message id; None: no answer."""
        fields = {"session_id": session, "recipient_phone": "628123456789", "message": text, "api_key": KEY}
        try:
            answer = await self.http.post(f"{gateway}/api/messages/send", json=fields, headers=headers)
        except httpx2.HTTPError:
            return None
        said = answer.json() if answer.is_success else {}
        if answer.status_code >= 400:
            self.history.note("refused", session=session, text=text, status=answer.status_code, why=answer.text[:300])
        return answer.status_code, said.get("message_id")


def text_of(session: str, number: int) -> str:
    return f"{session} {number:05d}"
