"""What the circuit of an endpoint and its pace allow this process, and what came of the permits it has used."""

from __future__ import annotations

import binascii
import time
from collections.abc import Sequence
from typing import Any

from relay import metrics
from relay.circuit import Admission, Circuit, Report
from relay.deliver.outcome import Delivered, Failed, NotSent, Outcome, Paused, Rejected, Superseded, took_any
from relay.deliver.retry import Evidence
from relay.queue.codec import Delivery
from sluice.store.client import Call, StoreAway, StoreRefused

_MAX_WAIT = 0.5  # seconds in which a process sees that another one has closed a half-open circuit
_MAX_BLOCKED = 2.0  # seconds in which a process sees that a person has released an open circuit
_UNKNOWN = Admission("open", -1, 0, 0.0)


class Permits:
    """A permit is for one POST. Results are collected by the generation of the circuit in which their POST began."""

    def __init__(self, circuit: Circuit) -> None:
        self.admission = _UNKNOWN
        """The circuit's last answer."""
        self._circuit = circuit
        self._reports: dict[int, Report] = {}
        self._asked_at = 0.0
        self._ok_at = 0.0
        self._slow_until = 0.0
        self._blocked_until = 0.0

    def are_plentiful(self, now: float) -> bool:
        """Whether there are as many as anybody wants."""
        return self.admission.state == "closed" and now >= self._slow_until and not self._circuit.interval

    def may_ask(self, now: float) -> bool:
        """Not while the circuit has said to wait, unless there is news for it that may change its answer."""
        return bool(self._reports) or now >= self._blocked_until

    def blocked_for(self, now: float) -> float:
        """Seconds; not above 0 when permits may be had."""
        return self._blocked_until - now

    def share(self, now: float) -> float:
        """Of the concurrency. After an outage it grows to 1, so that the receiver does not fail again at once."""
        slow_start_left = self._slow_until - now
        return 1 - slow_start_left / self._circuit.slow_start if slow_start_left > 0 else 1.0

    async def ask(self, want: int) -> int:
        """Delivers all reports and returns how many permits there are."""
        reports = self.take_reports()
        if not want and not reports:
            return 0
        try:
            admission = await self._circuit.admit(want, list(reports.items()))
        except (StoreAway, StoreRefused):
            self.put_back(reports)
            raise
        self._note(admission, want)
        return admission.permits

    def call(self, want: int, reports: dict[int, Report]) -> Call:
        """`ask` as a call, to be sent together with others; `read` takes in its answer."""
        return self._circuit.admitting(want, list(reports.items()))

    def read(self, answer: Sequence[Any], want: int) -> None:
        self._note(self._circuit.admission(answer), want)

    def take_reports(self) -> dict[int, Report]:
        reports, self._reports = self._reports, {}
        return reports

    def put_back(self, reports: dict[int, Report]) -> None:
        """The circuit did not get them."""
        for generation, report in reports.items():
            self._report(generation).add(report)

    def give_back(self, generation: int, permits: int) -> None:
        """Unused ones, where they are scarce."""
        if permits and (self._circuit.interval or self.admission.state != "closed"):
            self._report(generation).unused += permits

    def count(
        self, generation: int, deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], began_at: float
    ) -> bool:
        """A POST counts once, by its worst outcome. `began_at`: `store_now` of then. Returns whether all went well."""
        report = self._report(generation)
        if len(outcomes) == 1 and isinstance(outcomes[0], Delivered):  # nearly all
            report.successes += 1
            self._note_ok(report, began_at)
            return True
        if took_any(outcomes):
            self._note_ok(report, began_at)
        return _count_worst(report, deliveries, outcomes)

    def store_now(self, now: float) -> float:
        """Unix seconds, by the store's clock as the circuit told it last. `now` in monotonic seconds.

        A moment that is to be compared later is taken down by this when it is, and not reckoned back to then: the
        store's clock may have been set meanwhile.
        """
        return self.admission.now + now - self._asked_at

    def evidence(self, now: float) -> Evidence:
        """What is known of the endpoint. `now` in monotonic seconds."""
        return Evidence(max(self.admission.ok_at, self._ok_at), self.store_now(now), self._circuit.max_pause)

    def _note_ok(self, report: Report, began_at: float) -> None:
        report.note_ok(began_at)
        self._ok_at = max(self._ok_at, began_at)

    def _note(self, admission: Admission, want: int) -> None:
        now = time.monotonic()
        if admission.opened is not None:
            metrics.circuit_opened(self._circuit.endpoint, admission.opened)
        self.admission = admission
        self._asked_at = now
        self._slow_until = now + admission.slow_start_left
        if want:
            self._blocked_until = now + (0 if admission.permits else _wait(admission))

    def _report(self, generation: int) -> Report:
        report = self._reports.get(generation)
        if report is None:
            report = self._reports[generation] = Report()
        return report


def _count_worst(report: Report, deliveries: Sequence[Delivery], outcomes: Sequence[Outcome]) -> bool:
    """Into the report of a POST of which not all is known to have gone well. Returns whether it has, after all."""
    kinds = [_rank(outcome) for outcome in outcomes]
    worst = max(kinds)
    if worst == _DELIVERED:
        report.successes += 1
        return True
    if worst == _UNSENT:
        report.unused += 1
        return True
    for delivery, outcome, kind in zip(deliveries, outcomes, kinds, strict=True):
        if kind < _REFUSED or isinstance(outcome, Delivered):
            continue
        report.note_key(f"{binascii.crc32(delivery.stream[1:]):08x}")
        report.note_status(outcome.status)
        if kind == worst:
            report.why = outcome.reason
        if isinstance(outcome, Paused):
            report.paused = True
            report.min_pause = max(report.min_pause, outcome.min_pause)
    if worst == _FAILED:
        report.failures += 1
    else:
        report.refusals += 1
    return False


_UNSENT, _DELIVERED, _REFUSED, _FAILED = range(4)


def _rank(outcome: Outcome) -> int:
    if isinstance(outcome, Delivered):
        return _DELIVERED
    if isinstance(outcome, (NotSent, Superseded)) or (isinstance(outcome, Rejected) and outcome.status is None):
        return _UNSENT
    return _FAILED if isinstance(outcome, (Failed, Paused)) else _REFUSED


def _wait(admission: Admission) -> float:
    """Half-open, another process may close the circuit at any time; out of pace, the wait is known."""
    return min(admission.wait, _MAX_WAIT if admission.state == "half-open" else _MAX_BLOCKED)
