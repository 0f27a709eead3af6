"""Why a command could not do what was asked. Apart from what it takes to do it, so that a short command starts fast."""

from __future__ import annotations


class CommandError(Exception):
    """The message says why and what to do."""
