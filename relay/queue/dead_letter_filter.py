"""Which dead letters are meant."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from relay.queue.dead_letters import DeadLetter


@dataclass(frozen=True, slots=True)
class Filter:
    """Those of `ids`, or all that have these properties. None: any."""

    ids: tuple[str, ...] = ()
    endpoint: str | None = None
    session: str | None = None
    event: str | None = None
    """A type or a glob."""
    since: float | None = None
    until: float | None = None
    """Unix seconds between which it died, by the store's clock; `until` itself is not meant."""
    reason: str | None = None
    """In why it died, in any case."""
    text: str | None = None
    """In its body, its target or one of its header values, in any case (of ASCII)."""

    def has(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and (self.session is None or letter.session == self.session)
            and (self.event is None or fnmatchcase(letter.type, self.event))
            and (self.since is None or letter.died_at >= self.since)
            and (self.until is None or letter.died_at < self.until)
            and (self.reason is None or self.reason.casefold() in letter.reason.casefold())
            and (self.text is None or _says(letter, self.text))
        )


def _says(letter: DeadLetter, text: str) -> bool:
    wanted = text.encode().lower()
    return any(wanted in each.lower() for each in (letter.body, letter.target, *(value for _, value in letter.headers)))
