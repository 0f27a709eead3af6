"""A profile from the vault, for a browser that is about to run on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sessions.profiles import browsers
from sessions.profiles.browsers import Browser, Unfit
from sessions.profiles.vault import NothingKept, Restored, Vault
from sluice.observe.log import Log

LOG = Log("sessions")


async def restore(
    vault: Vault, session: str, profile: Path, runs: Browser, *, without: Mapping[int, str] | None = None
) -> Restored | NothingKept:
    """The newest generation that is whole, in the place of `profile`. `runs`: the browser that will open it, as
    `browsers.browser_at` finds it, with the backend that it has here, where that is known. `without`: generations that
    are passed over, each with the reason, which is told as that of one that cannot be read.

    Raises Unfit when the newest one was written by a newer browser or another product, InUse for a profile on which a
    browser runs, LowSpace, and as `Vault.restore`. An older generation that would fit is not taken instead: what the
    newest one knows of would be missing, and a person decides that.
    """
    known, without = await vault.generations.of(session), without or {}
    if known is not None:
        known = replace(known, generations=tuple(one for one in known.generations if one.number not in without))
    if known is None or known.deleted is not None or known.newest is None:
        return await vault.restore(session, profile, known)
    warning = browsers.check(browsers.named(known.newest.browser, known.newest.backend), runs)
    if warning is not None:
        LOG.warning("profile.other_backend", session=session, generation=known.newest.number, reason=warning)
    fitting = tuple(one for one in known.generations if _fits(browsers.named(one.browser, one.backend), runs))
    passed_over = tuple(without.values())
    return await vault.restore(session, profile, replace(known, generations=fitting), passed_over=passed_over)


def _fits(kept: Browser, runs: Browser) -> bool:
    try:
        browsers.check(kept, runs)
    except Unfit:
        return False
    return True
