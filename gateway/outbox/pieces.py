"""A bulk-send as sends of one recipient each, and one answer made of theirs. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.problems import Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.workers.bulk import MOST, dumps, error_of, fields_of, of_piece, value_of
from gateway.workers.send_records import Outcome
from sluice.http.fields import pair_of
from sluice.http.server import RecordedExchange, RequestHead

_JSON = b"Content-Type: application/json\r\n"
_OF_BODY = (b"content-length", b"etag")


def queued(send: str, head: RequestHead) -> RecordedExchange:
    """What a caller is told who waits no longer: the contract's fields, with our id."""
    return _made(head, 202, [_JSON], {"success": True, **_as_queued(send), "id": send})


def _as_queued(send: str) -> dict[str, object]:
    return {"status": "queued", "message_id": send, "timestamp": int(time.time())}


class Pieces:
    """Of a bulk-send to several."""

    def __init__(self, send: str, outgoing: UpstreamRequest, fields: dict[str, Any]) -> None:
        self.recipients: Sequence[Any] = fields["recipients"]
        self._send = send
        self._outgoing = outgoing
        self._fields = fields

    @staticmethod
    def of(send: str, outgoing: UpstreamRequest) -> Pieces | None:
        """None: it is for one, or no bulk-send that a worker takes. Raises Refusal 413."""
        fields = fields_of(outgoing)
        recipients = fields.get("recipients") if fields else None
        if fields is None or not isinstance(recipients, list) or len(recipients) < 2:
            return None
        if len(recipients) > MOST:
            raise Refusal(413, f"a bulk-send takes {MOST} recipients at most; send fewer at once")
        return Pieces(send, outgoing, fields)

    @property
    def ids(self) -> list[str]:
        return [f"{self._send}-{number}" for number in range(1, len(self.recipients) + 1)]

    def requests(self) -> Iterator[tuple[str, UpstreamRequest]]:
        for piece, recipient in zip(self.ids, self.recipients, strict=True):
            yield piece, of_piece(self._outgoing, self._fields, [recipient])

    def answer(self, outcomes: Sequence[Outcome | None], head: RequestHead) -> RecordedExchange:
        """`outcomes`: of all of them, in order; None: the caller is told our id. As a worker answers a bulk-send; where
        it refuses all of them for one reason, as it did."""
        first = outcomes[0]
        if isinstance(first, RecordedExchange) and value_of(first) is None and _are_alike(outcomes):
            return first
        results: list[Any] = []
        errors: list[Any] = []
        ids = self.ids
        for at, outcome in enumerate(outcomes):
            recipient = self.recipients[at]
            value = value_of(outcome) if isinstance(outcome, RecordedExchange) else None
            if outcome is None:
                results.append({"recipient": recipient, "success": True, **_as_queued(ids[at])})
            elif value is not None:
                results += value["results"][:1]
                errors += value["errors"][:1]
            else:
                errors.append({"recipient": recipient, "error": why_failed(outcome)})
        total = len(self.recipients)
        numbers = {"total": total, "successful": total - len(errors), "failed": len(errors)}
        value = {"success": True, **numbers, "results": results, "errors": errors}
        if None in outcomes:
            return _made(head, 202, [_JSON], {**value, **_as_queued(self._send), "id": self._send})
        answered = next(
            (one for one in outcomes if isinstance(one, RecordedExchange) and value_of(one) is not None), None
        )
        lines = [_JSON] if answered is None else [it for it in answered.lines if pair_of(it)[0] not in _OF_BODY]
        return _made(head, 200, lines, value)


def why_failed(outcome: Outcome) -> str:
    if isinstance(outcome, Refusal):
        return outcome.detail
    return f"the worker answered {outcome.status}: {error_of(outcome)}"


def _are_alike(outcomes: Sequence[Outcome | None]) -> bool:
    first = outcomes[0]
    return isinstance(first, RecordedExchange) and all(
        isinstance(one, RecordedExchange) and (one.status, one.body) == (first.status, first.body) for one in outcomes
    )


def _made(head: RequestHead, status: int, lines: Sequence[bytes], value: object) -> RecordedExchange:
    body = dumps(value)
    made = RecordedExchange(head, len(body))
    made.begin(status, [*lines, b"Content-Length: %d\r\n" % len(body)], len(body), body, more=False)
    return made
