"""Why a receiver was not told."""

from __future__ import annotations


class SendFailed(Exception):
    """The message says why, without a secret."""
