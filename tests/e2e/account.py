"""The account of a run: what was emitted, what came of it, what arrived and when."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from relay.queue.suspects import MAX_CRASHES

Sent = tuple[str, int]
"""A session, and the event's place in it."""
OF_CRASHES = f"{MAX_CRASHES} relay processes ended while they delivered it"
LONGEST_POST = 1.5
"""Seconds: the timeout of these deployments, and something for the machine."""


@dataclass(slots=True)
class Account:
    """Moments in seconds, monotonic."""

    emitted: dict[Sent, float] = field(default_factory=dict)
    answered: set[Sent] = field(default_factory=set)
    given_up: dict[Sent, str] = field(default_factory=dict)
    """Why the sender, by its contract, did not send it again."""
    taken: list[tuple[Sent, str, float]] = field(default_factory=list)
    """What the receiver answered with 200: the event, its id, and when."""
    posted: defaultdict[Sent, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When the receiver got which event, whatever it answered."""
    dead: dict[Sent, str] = field(default_factory=dict)
    """What is a dead letter in the end, and of what it died."""
    sent: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of each message that a worker has sent, by its text: the ids under which it went out."""
    answers: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    relay_kills: list[float] = field(default_factory=list)
    """When each was."""
    steps: int = 0
    """Of the store's clock."""
    messages: tuple[str, ...] = ()
    """What `status` says in the end."""

    def lost(self) -> list[Sent]:
        """What never arrived and is no dead letter, but for what a killed gateway took along: its sender sees a reset,
        and gives up."""
        cut = {sent for sent, why in self.given_up.items() if why == "reset" and self.kills["gateway"]}
        return sorted(self.emitted.keys() - cut - self._arrived() - self.dead.keys())

    def wrongly_dead(self) -> list[Sent]:
        """Dead letters, but for those in whose POST so many relays were killed as make an event a dead letter."""
        return sorted(sent for sent in self.dead if not self._died_of_kills(sent))

    def _died_of_kills(self, sent: Sent) -> bool:
        killed_in = [
            kill for kill in self.relay_kills if any(kill - LONGEST_POST <= at <= kill for at in self.posted[sent])
        ]
        return self.dead[sent] == OF_CRASHES and len(killed_in) >= MAX_CRASHES

    def cut_off(self) -> list[Sent]:
        """What a killed gateway took along."""
        return sorted(self.given_up.keys() - self._arrived() - set(self.lost()))

    def out_of_order(self) -> list[Sent]:
        """Events whose first arrival came after that of a later one of their session."""
        newest: dict[str, int] = defaultdict(lambda: -1)
        seen: set[Sent] = set()
        late: list[Sent] = []
        for sent, _, _ in self.taken:
            if sent in seen:
                continue
            seen.add(sent)
            late += [sent] if sent[1] < newest[sent[0]] else []
            newest[sent[0]] = max(newest[sent[0]], sent[1])
        return late

    def repeated(self) -> int:
        return len(self.taken) - len(self._arrived())

    def unexplained(self) -> list[Sent]:
        """Arrivals under another id than the first of the same event."""
        first: dict[Sent, str] = {}
        return [sent for sent, identity, _ in self.taken if first.setdefault(sent, identity) != identity]

    def latency(self, kind: str, percentile: int) -> float:
        """Seconds from the moment an event of these sessions was emitted until it first arrived."""
        first: dict[Sent, float] = {}
        for sent, _, at in self.taken:
            first.setdefault(sent, at)
        taken = [at - self.emitted[sent] for sent, at in first.items() if sent[0].startswith(kind)]
        return statistics.quantiles(taken, n=100)[percentile - 1]

    def _arrived(self) -> set[Sent]:
        return {sent for sent, _, _ in self.taken}

    def __str__(self) -> str:
        return (
            f"kills {dict(self.kills)}, steps of the clock {self.steps}, emitted {len(self.emitted)}, answered "
            f"{len(self.answered)}, given up {dict(Counter(self.given_up.values()))}, receiver {dict(self.answers)}, "
            f"lost {len(self.lost())}, taken along by a killed gateway {len(self.cut_off())}, dead letters "
            f"{self.dead}, out of order {len(self.out_of_order())}, repeated {self.repeated()}, under another id "
            f"{len(self.unexplained())}"
        )
