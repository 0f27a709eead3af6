"""When a page is opened once more, as WhatsApp wants a newer one than that which is open, perhaps for weeks."""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY = 3600.0
"""Seconds between two of them: what is outdated then as well, a person has to update."""


class NewerPage:
    """Of one session. `clock`: seconds that only go forward."""

    def __init__(self, open_again: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._open_again = open_again
        self._clock = clock
        self._due = clock()
        self._opening = False

    def comes(self) -> bool:
        """The page that is open is outdated. Whether it is opened once more, so that nobody is told before that has
        loaded."""
        if not self._opening and self._clock() >= self._due:
            self._opening, self._due = True, self._clock() + _EVERY
            self._open_again()
        return self._opening

    def loaded(self) -> None:
        """One has."""
        self._opening = False
