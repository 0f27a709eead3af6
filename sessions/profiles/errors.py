"""What can be wrong with a profile or with what is kept of it. Each message says what to do."""

from __future__ import annotations


class ProfileError(Exception):
    """Something about a profile that a person has to know."""


class Broken(ProfileError):
    """What is kept is not what was written: cut, changed, or of another session or generation."""


class WrongKey(ProfileError):
    """It was sealed with a key that `sessions.vault.key` does not name."""


class TooLarge(ProfileError):
    """Over a bound that is named in the message."""


class Unsafe(ProfileError):
    """A name or a file that may not be in a profile: it would be written somewhere else."""


class NoProfile(ProfileError):
    """There is no login in this folder."""


class ContentsAway(ProfileError):
    """The folder or bucket cannot be written or read right now; the message says why."""


class ContentsFull(ContentsAway):
    """There is no room for more."""
