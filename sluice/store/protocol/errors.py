"""What can go wrong with the store, for those who call it."""

from __future__ import annotations

from sluice.store.protocol import reasons


class StoreAway(Exception):
    """The store did not answer, not in time, or asked to come later. Nothing is known about what it did."""


class StoreRefused(Exception):
    """The store answered with an error: out of memory, read only, disk full, a bug in a script."""


class Full(Exception):
    """More callers wait than are allowed to."""


class ErrorReply(Exception):
    """An error as the store sent it. It travels as a value: whoever asked decides what it means."""

    @property
    def code(self) -> str:
        """`NOSCRIPT`, `MOVED`, `OOM`…"""
        return str(self).partition(" ")[0]


_LATER = {"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"}


def raised(error: ErrorReply) -> StoreAway | StoreRefused:
    """The exception to raise for it: StoreAway for what passes by itself."""
    text = str(error)
    if error.code in _LATER or text.startswith("ERR max number of clients reached"):
        return StoreAway(text)
    return StoreRefused(reasons.of_command(text))
