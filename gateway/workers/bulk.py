"""A bulk-send in pieces that end before the worker would end itself, and one answer made of theirs.

An existing worker sends to one recipient after the other, with a second between, and ends with all its sessions when
that takes over 30 s. How many recipients fit is what was seen of the session, and cautious at first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from gateway.problems import Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.request import Head
from gateway.workers import metrics
from gateway.workers.connections import NoAnswer
from gateway.workers.request import uncompressed
from sluice.http import foreign_json, lenient_json
from sluice.http.fields import CONTENT_LENGTH, Fields, pair_of
from sluice.http.foreign_json import TooManyValues
from sluice.http.server import RecordedExchange
from sluice.observe.log import Log
from sluice.process.cache import Latest

LOG = Log("gateway")
PIECE = 15.0
"""Seconds that a piece shall take: half of what a worker survives."""
FIRST = 6
"""Recipients of a first piece: nobody knows yet how long one takes."""
MOST = 10_000
"""Recipients of one bulk-send."""
MAX_ANSWERS = 16 * 2**20
"""Bytes of what workers say of all pieces; of those that say more only the numbers are told."""
_MAX_BYTES = 4 * 2**20

Ask = Callable[[UpstreamRequest], Awaitable[RecordedExchange]]


class Bulk:
    """Of one process: it remembers how long a recipient of a session takes."""

    def __init__(self) -> None:
        self._seconds: Latest[str, float] = Latest(_MAX_BYTES)
        self._stopped = False

    def stop(self) -> None:
        """After the piece under way no more is sent."""
        self._stopped = True

    async def answer(
        self, session: str, outgoing: UpstreamRequest, ask: Ask, going_on: Callable[[], None]
    ) -> RecordedExchange:
        """`going_on` is called after each piece. Raises what `ask` raises for the first piece."""
        fields = fields_of(outgoing)
        recipients = fields.get("recipients") if fields else None
        if fields is None or not isinstance(recipients, list) or len(recipients) <= self._fitting(session, FIRST):
            return await ask(outgoing)
        if len(recipients) > MOST:
            raise Refusal(413, f"a bulk-send takes {MOST} recipients at most; send fewer at once")
        run = _Run(session, fields, recipients)
        size = FIRST
        while run.left:
            size = min(self._fitting(session, FIRST), 2 * size)
            piece = run.left[:size]
            began = time.monotonic()
            if self._stopped and run.done:
                run.give_up(run.left, "not sent: the gateway stops")
                break
            try:
                answer = await ask(of_piece(outgoing, fields, piece))
            except Refusal as refusal:
                if not run.done:
                    raise
                sent = isinstance(refusal, NoAnswer) and refusal.sent
                run.give_up(piece, f"{'it is not known whether it was sent' if sent else 'not sent'}: {refusal.detail}")
                run.give_up(run.left, "not sent, as an earlier one failed")
                break
            value = value_of(answer)
            if value is None:
                if not run.done:
                    return answer
                run.give_up(piece, f"the worker answered {answer.status}: {error_of(answer)}")
                run.give_up(run.left, "not sent, as an earlier one failed")
                break
            seconds = time.monotonic() - began
            self._note(session, seconds / len(piece))
            run.add(answer, value, len(piece), seconds)
            going_on()
        return run.answer()

    def _fitting(self, session: str, unknown: int) -> int:
        """Recipients of a piece."""
        seconds = self._seconds.get(session)
        return unknown if seconds is None else max(1, int(PIECE / max(seconds, 0.001)))

    def _note(self, session: str, seconds: float) -> None:
        """What is slower now counts at once; what is faster, by half."""
        before = self._seconds.get(session)
        now = seconds if before is None else max(seconds, (before + seconds) / 2)
        self._seconds.keep(session, now, session.__sizeof__())


class _Run:
    """What has come of the pieces so far."""

    def __init__(self, session: str, fields: Mapping[str, Any], recipients: list[Any]) -> None:
        self.left = recipients
        self.done = 0
        self._session = session
        self._total = len(recipients)
        self._results: list[Any] = []
        self._errors: list[Any] = []
        self._successful = 0
        self._bytes = 0
        self._first: RecordedExchange | None = None

    def add(self, answer: RecordedExchange, value: Mapping[str, Any], size: int, seconds: float) -> None:
        self._first = self._first or answer
        self._bytes += len(answer.body)
        if self._bytes <= MAX_ANSWERS:
            self._results += value["results"][:size]
            self._errors += value["errors"][:size]
        successful = value.get("successful")
        self._successful += successful if isinstance(successful, int) else len(value["results"])
        self.done += size
        self.left = self.left[size:]
        LOG.info("bulk.piece", session=self._session, done=self.done, of=self._total, seconds=round(seconds, 2))

    def give_up(self, recipients: Sequence[Any], why: str) -> None:
        self._errors += [{"recipient": recipient, "error": why} for recipient in recipients]
        self.left = self.left[len(recipients) :]
        if recipients:
            metrics.send("given_up", len(recipients))
            LOG.warning("bulk.given_up", session=self._session, recipients=len(recipients), of=self._total, why=why)

    def answer(self) -> RecordedExchange:
        """As the worker answers one piece."""
        first = self._first
        assert first is not None
        body = dumps(
            {
                "success": True,
                "total": self._total,
                "successful": self._successful,
                "failed": self._total - self._successful,
                "results": self._results,
                "errors": self._errors,
            }
        )
        lines = [line for line in first.lines if pair_of(line)[0] not in (b"content-length", b"etag")]
        made = RecordedExchange(first.head, len(body))
        made.begin(200, [*lines, b"Content-Length: %d\r\n" % len(body)], len(body), body, more=False)
        LOG.info("bulk.ended", session=self._session, successful=self._successful, of=self._total)
        return made


def loads(body: bytes) -> Any:
    """Half an emoji and numbers of any size, too, as a worker reads them. Raises ValueError."""
    try:
        return foreign_json.loads(body)
    except TooManyValues:
        raise
    except ValueError:
        foreign_json.refuse_many(body, lenient_json.MAX_VALUES)
        try:
            return json.loads(body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def dumps(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def fields_of(outgoing: UpstreamRequest) -> dict[str, Any] | None:
    """None: it is no JSON object, and the worker shall say so."""
    try:
        value = loads(outgoing.body or b"")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def of_piece(outgoing: UpstreamRequest, fields: Mapping[str, Any], recipients: Sequence[Any]) -> UpstreamRequest:
    whole = uncompressed(outgoing).head
    kept = Fields(whole.fields.without(CONTENT_LENGTH))
    head = Head(
        whole.method,
        whole.path,
        whole.target,
        kept,
        None,
        whole.client,
        whole.scheme,
        whole.via,
        id_line=whole.id_line,
    )
    return UpstreamRequest(head, dumps({**fields, "recipients": recipients}), idle=outgoing.idle)


def value_of(answer: RecordedExchange) -> Mapping[str, Any] | None:
    """None: it is not what a worker says of a bulk-send."""
    try:
        value = loads(answer.body)
    except ValueError:
        return None
    if answer.status != 200 or not isinstance(value, dict):
        return None
    return value if isinstance(value.get("results"), list) and isinstance(value.get("errors"), list) else None


def error_of(answer: RecordedExchange) -> str:
    try:
        value = loads(answer.body)
    except ValueError:
        return "no JSON"
    error = value.get("error") if isinstance(value, dict) else None
    return str(error)[:200]
