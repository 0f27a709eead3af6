"""Which buckets a request takes from, and a bucket itself in plain Python. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from gateway.address import Client
from runtime.policies import Limit, Network

How = Literal["e", "q", "o"]
_TOLERANCE = 1e-9  # as in take.lua


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is about."""

    client: Client
    event: str | None
    session: str | None
    relayed: bool
    """It can wait: a limit with `over: queue` delays it. Anything else is rejected instead."""


@dataclass(slots=True)
class Bucket:
    """One limit for one subject. Its key never holds a number: an edited limit finds its level again.

    NUL parts the subjects: a name cannot hold one (`request.name_from`), so two of them never read as one key.
    """

    limit: Limit
    key: str
    how: How


class Limits:
    """The limits of the policies, and which of them a request meets."""

    def __init__(self, limits: Sequence[Limit], lists: Mapping[str, tuple[Network, ...]]) -> None:
        self._limits = [(limit, tuple(net for name in limit.exempt for net in lists[name])) for limit in limits]
        self._speaking = lru_cache(maxsize=1024)(self._that_speak_of)

    def buckets(self, subject: Subject) -> list[Bucket]:
        """Of all limits that apply. A limit whose subject is missing does not: nobody shares an "unknown"."""
        found = []
        for limit, exempt, prefix in self._speaking(subject.event):
            if exempt and subject.client.is_in(exempt):
                continue
            key = prefix
            for by in limit.per:
                part = _part(by, subject)
                if part is None:
                    break
                key += "\0" + part
            else:
                found.append(Bucket(limit, key, _how(limit, subject)))
        return found

    def _that_speak_of(self, event: str | None) -> list[tuple[Limit, tuple[Network, ...], str]]:
        return [
            (limit, exempt, "sl:{limits}:" + limit.id)
            for limit, exempt in self._limits
            if not limit.events or (event is not None and any(fnmatchcase(event, pattern) for pattern in limit.events))
        ]


def _part(by: str, subject: Subject) -> str | None:
    if by == "ip":
        return subject.client.subject
    return subject.session if by == "session" else subject.event


def _how(limit: Limit, subject: Subject) -> How:
    if limit.observe:
        return "o"
    return "q" if limit.over == "queue" and subject.relayed else "e"


@dataclass(slots=True)
class LocalBucket:
    """A token bucket of this process: what take.lua does to one bucket, for when the store is away."""

    level: float
    at: float
    """Seconds of whatever clock `now` is of."""

    def wait(self, now: float, interval: float, burst: float) -> float:
        """Seconds until there is a token; 0: there is one now."""
        self.level = min(burst, self.level + max(0.0, now - self.at) / interval)
        self.at = now
        return 0.0 if self.level >= 1 - _TOLERANCE else (1 - self.level) * interval

    def take(self) -> None:
        self.level -= 1
