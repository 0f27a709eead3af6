"""What a call that acts on many has to say: which are meant, so that nothing is done to all by mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Protocol

from sluice.console.actions.deployment import Problem, invalid


class Selecting(Protocol):
    """By ids, by the fields of its criteria, or by `all`."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def all(self) -> bool: ...


def unsaid(request: Selecting, criteria: type, those: str, which: str) -> Problem | None:
    """Why it is not clear which are meant. `criteria`: the dataclass of them, all of whose fields may be None;
    `those`, `which`: what they are called, in short and in full."""
    names = [field.name for field in fields(criteria)]
    if request.ids and request.all:
        return invalid(f"ids and all exclude each other: name the {those}, or mean all of them")
    if not (request.ids or request.all or any(getattr(request, name) is not None for name in names)):
        return invalid(f"say which {which} are meant: by ids, by {', '.join(names)}, or by all")
    return None
