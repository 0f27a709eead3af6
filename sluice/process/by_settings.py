"""The one rule for edits: what was made of settings is kept for as long as an edit leaves its settings as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class BySettings(Generic[T]):
    """Things by name, and the settings each was made of. Never changed: an edit has the next one.

    Settings are compared by `==`, so they hold all that the thing is made of, and nothing else.
    """

    def __init__(self) -> None:
        self.things: Mapping[str, T] = {}
        self._settings: Mapping[str, object] = {}

    def edited(self, settings: Mapping[str, object], make: Callable[[str], T]) -> BySettings[T]:
        """The things whose settings have stayed the same, and new ones for the other names.

        Raises what `make` raises; nothing has changed then.
        """
        after = BySettings[T]()
        after._settings = dict(settings)
        after.things = {
            name: self.things[name] if name in self.things and self._settings[name] == new else make(name)
            for name, new in settings.items()
        }
        return after

    def missing_in(self, other: BySettings[T]) -> dict[str, T]:
        """The things that `other` does not have: of those before an edit what is to be closed, of those after what is
        new.
        """
        return {name: thing for name, thing in self.things.items() if other.things.get(name) is not thing}
