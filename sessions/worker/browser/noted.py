"""What the folder of a profile is: the number of the generation that it became, or was replaced by, or after which
deletion of its login it was begun. It is noted in the folder itself, which a restore replaces."""

from __future__ import annotations

import shutil
from pathlib import Path

from sluice.observe.log import Log

LOG = Log("sessions.browser")
_FILE = ".sluice-generation"


def noted(profile: Path) -> str:
    """Empty: nothing is."""
    try:
        return (profile / _FILE).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def note(profile: Path, session: str, what: str) -> None:
    try:
        (profile / _FILE).write_text(f"{what}\n", encoding="ascii")
    except OSError as error:
        LOG.warning("profile.not_noted", session=session, reason=str(error))


def begin_anew(profile: Path, session: str, after: str) -> None:
    """Takes away the login that was deleted. One that somebody has made `after` that deletion stays."""
    if noted(profile) != after:
        shutil.rmtree(profile, ignore_errors=True)
        profile.mkdir(0o700, exist_ok=True)
        note(profile, session, after)
