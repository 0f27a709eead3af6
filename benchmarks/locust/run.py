"""What one load test knows and counts, shared by all its users."""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from dataclasses import dataclass, field

from latency import Histogram
from oracle import Oracle
from policies import Policies


@dataclass(slots=True)
class Counts:
    unanswered: int = 0
    failed: Counter[int] = field(default_factory=Counter)
    """5xx, by status."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """What neither passed nor was refused by a limit, by what it said: a wrong secret, no such route, no connection."""
    never_sent: int = 0
    """Due, but the answers before them took too long."""
    since_due: Histogram = field(default_factory=Histogram)
    """From when a request was due to its answer."""
    waited: Histogram = field(default_factory=Histogram)
    """From when it was due to when it was sent."""
    served: Histogram = field(default_factory=Histogram)
    """From when it was sent to its answer."""


@dataclass(slots=True)
class Run:
    policies: Policies
    oracle: Oracle
    secret: bytes
    pace: float
    send_to: tuple[str, ...]
    attack_from: str | None
    """None: from wherever the other users send."""
    counts: Counts = field(default_factory=Counts)
    _name: str = field(default_factory=lambda: secrets.token_hex(4))
    _numbers: Counter[str] = field(default_factory=Counter)
    _said: set[str] = field(default_factory=set)

    def new_session(self) -> tuple[str, int]:
        """A session and its workspace that nobody has used before."""
        number = self.next_of("session")
        return self._session(str(number), number)

    @property
    def noisy(self) -> tuple[str, int]:
        """The session that all noisy users share."""
        return self._session("noisy", 0)

    def _session(self, name: str, number: int) -> tuple[str, int]:
        return f"load_{self._name}_{name}", int(self._name, 16) * 10_000 + number

    def next_of(self, kind: str) -> int:
        self._numbers[kind] += 1
        return self._numbers[kind]

    def say(self, text: str) -> None:
        """Once each."""
        if text not in self._said:
            self._said.add(text)
            sys.stderr.write(f"{text}\n")
