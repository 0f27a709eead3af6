"""The oracle: was each answer right, by exact token buckets, as far as one can tell from outside (`ledger`)?

No I/O, no clock: every call is told the time, in seconds of one monotonic clock that never goes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Literal

from ledger import TOLERANCE, Flight, Ledger
from policies import Address, Limit, Numbers, cost_of

_MAX_TOLD = 20

Outcome = Literal["passed", "refused", "unclear", "unanswered"]
"""`unclear`: an answer that says nothing of the limits (404, 502). It may have taken tokens or not, as one without an
answer may, and that one even later."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is about, as the server sees it."""

    address: Address
    event: str | None = None
    session: str | None = None
    workspace: str | None = None
    relayed: bool = False
    """A webhook: a limit with `over: queue` delays it instead of refusing it."""
    ours: bool = True
    """The session is a name of this run: nobody has ever taken from its buckets."""


@dataclass(slots=True)
class Asked:
    """A request under way: its part in every bucket it takes from."""

    subject: Subject
    parts: list[tuple[Limit, Ledger, Flight]]
    unclear: set[str]
    """Limits of which nobody can say what they do with this subject."""


@dataclass(slots=True)
class Findings:
    """What the oracle has seen so far."""

    passed: int = 0
    refused: int = 0
    """By a limit whose refusals can be judged."""
    wrongly_refused: int = 0
    not_judged: int = 0
    """Refusals of which nothing can be said."""
    waits_kept: int = 0
    """Requests that waited as long as the refusal before them said, and passed."""
    waits_broken: int = 0
    """The same, but refused again by a limit that had refused before."""
    told: dict[str, str] = field(default_factory=dict)
    """Wrong answers in words: of each bucket the last, of over-admissions that is the worst."""


class Oracle:
    """All buckets that this load test touches. It must be the only one to send to its sessions and addresses."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = limits
        self._known = {limit.id: limit for limit in limits}
        self._ledgers: dict[tuple[str, ...], Ledger] = {}
        self.findings = Findings()

    @property
    def over_admitted(self) -> int:
        """Tokens, over all buckets."""
        return sum(math.ceil(ledger.over - TOLERANCE) for ledger in self._ledgers.values())

    def sent(self, subject: Subject, body: object, now: float) -> Asked:
        """To be called right before sending; `body` is the decoded JSON, for what the request costs."""
        asked = Asked(subject, [], set())
        for limit in self._limits:
            key = _key(limit, subject)
            if not limit.judged or limit.observed or key is None:
                continue
            numbers = limit.numbers_for(subject.address, subject.session, subject.workspace)
            if len(numbers) > 1:
                asked.unclear.add(limit.id)
            for one in numbers if len(numbers) == 1 else ():
                if one is not None:
                    ledger = self._ledger(key, limit, one, subject, now)
                    asked.parts.append((limit, ledger, ledger.send(now, cost_of(limit, body))))
        return asked

    def _ledger(self, key: tuple[str, ...], limit: Limit, numbers: Numbers, subject: Subject, now: float) -> Ledger:
        if key not in self._ledgers:
            full = subject.ours and "session" in limit.per
            self._ledgers[key] = Ledger(numbers.rate, numbers.burst, now, full=full)
        return self._ledgers[key]

    def answered(
        self, asked: Asked, outcome: Outcome, now: float, refusing: Iterable[str] = (), wait: float | None = None
    ) -> str | None:
        """To be called when the answer is there, `refusing` with the ids it names, `wait` with the seconds it says.

        A wrong answer in words, or None.
        """
        if outcome == "refused":
            names = set(refusing)
            wrong = self._waited(asked, names) or self._refused(asked, names)
            for limit, ledger, flight in asked.parts:
                if limit.id in names and wait is not None:
                    ledger.promise(flight, now + wait)
        elif outcome == "passed":
            wrong = self._passed(asked, now)
        else:
            wrong = None
            for _, ledger, flight in asked.parts:
                (ledger.unclear if outcome == "unclear" else ledger.unanswered)(flight, now)
        if wrong:
            self._tell(wrong)
        return wrong

    def _tell(self, wrong: str) -> None:
        bucket, _, _ = wrong.rpartition(": ")
        if bucket in self.findings.told or len(self.findings.told) < _MAX_TOLD:
            self.findings.told[bucket] = wrong

    def _passed(self, asked: Asked, now: float) -> str | None:
        self.findings.passed += 1
        self.findings.waits_kept += any(ledger.was_promised(flight) for _, ledger, flight in asked.parts)
        wrong = None
        for limit, ledger, flight in asked.parts:
            if _enforces(limit, asked.subject):
                excess = ledger.passed(flight, now)
                if excess:
                    wrong = f"over-admission: limit {limit.id}, {_named(limit, asked.subject)}: {excess}"
            else:
                ledger.unclear(flight, now)
        return wrong

    def _waited(self, asked: Asked, names: set[str]) -> str | None:
        """Whether it was refused although it had waited as it was told."""
        broken = [
            limit.id for limit, ledger, flight in asked.parts if limit.id in names and ledger.was_promised(flight)
        ]
        if not broken or not all(self._can_judge(name) for name in broken):
            return None
        self.findings.waits_broken += 1
        self._refused(asked, names)
        about = _named(self._known[broken[0]], asked.subject)
        return f"broken wait: limit {broken[0]}, {about}: refused again after the wait that it said"

    def _refused(self, asked: Asked, names: set[str]) -> str | None:
        could = False
        for limit, ledger, flight in asked.parts:
            if limit.id in names:
                could |= not ledger.refused(flight)
            else:
                ledger.gave_back(flight)
        if not names or names & asked.unclear or not all(self._can_judge(name) for name in names):
            self.findings.not_judged += 1
            return None
        self.findings.refused += 1
        if could:
            return None
        self.findings.wrongly_refused += 1
        about = ", ".join(_named(self._known[name], asked.subject) for name in sorted(names))
        return f"wrong refusal: limit {', '.join(sorted(names))}, {about}: there was a token for it"

    def _can_judge(self, name: str) -> bool:
        """Others may take from a bucket that neither a session nor an address of ours owns."""
        limit = self._known.get(name)
        return limit is not None and limit.judged and not {"session", "ip"}.isdisjoint(limit.per)


def _key(limit: Limit, subject: Subject) -> tuple[str, ...] | None:
    """Of the bucket; None: the limit does not apply."""
    if limit.events and not any(fnmatchcase(subject.event or "", glob) for glob in limit.events):
        return None
    if any(subject.address in network for network in limit.exempt):
        return None
    parts = [_part(by, limit, subject) for by in limit.per]
    return None if None in parts else (limit.id, *(part for part in parts if part))


def _part(by: str, limit: Limit, subject: Subject) -> str | None:
    if by == "ip":
        bits = limit.prefixes[0 if subject.address.version == 4 else 1]
        return str(ip_network((subject.address, bits), strict=False))
    return subject.session if by == "session" else subject.event


def _enforces(limit: Limit, subject: Subject) -> bool:
    return not limit.partly and not (limit.over == "queue" and subject.relayed)


def _named(limit: Limit, subject: Subject) -> str:
    return " ".join(f"{by} {_part(by, limit, subject)}" for by in limit.per) or "all together"
