"""A choice of dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from relay.queue.dead_letter_pages import DeadLetter


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
    """Unix seconds between which it died, by the store's clock; `until` is excluded."""
    reason: str | None = None
    """A part of the reason it died for, in upper or lower case."""
    text: str | None = None
    """A part of its body, its target or one of its header values, in upper or lower case (ASCII)."""

    def has(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.event.id in self.ids)
            and (self.session is None or letter.event.session == self.session)
            and (self.event is None or fnmatchcase(letter.event.type, self.event))
            and (self.since is None or letter.died_at >= self.since)
            and (self.until is None or letter.died_at < self.until)
            and (self.reason is None or self.reason.casefold() in letter.reason.casefold())
            and (self.text is None or _says(letter, self.text))
        )


def _says(letter: DeadLetter, text: str) -> bool:
    wanted = text.encode().lower()
    event = letter.event
    return any(wanted in each.lower() for each in (event.body, event.target, *(value for _, value in event.headers)))
