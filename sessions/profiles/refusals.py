"""What a call of the vault's API is answered where it cannot be done: one place that knows why, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from sessions.profiles.calls import refused_for, too_long
from sessions.profiles.errors import Broken, ContentsAway, ContentsFull, NoProfile, ProfileError, TooLarge, Unsafe
from sessions.profiles.generations import Profile, Refused
from sessions.profiles.space import LowSpace
from sessions.profiles.troubles import STALE, Kind
from sessions.profiles.vault import NoneReadable, NothingKept
from sluice.http.problem import Refusal
from sluice.store.client import StoreAway, StoreRefused

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TROUBLES = (400, 409, 413, 507)
_FOREIGN = (Broken, NoProfile, Unsafe)
_STALE = (
    "a later start of the session has it, so nothing was changed: stop the session here, or start it again with POST"
)
_DISK_FULL = "the disk of the gateway's data folder is full, or nearly: make room there (data in policies.yaml)"
_DELETED = (
    "the login of this session was deleted since this start, so nothing was saved: start it again with POST after the "
    "next pairing, or take the deletion back (sluice vault undelete)"
)


def refusal_of(error: Exception) -> Refusal | None:
    """None: it is a mistake of ours."""
    match error:
        case Refusal():
            return error
        case StoreAway():
            return Refusal(503, "the store does not answer; try again", retry_after=b"1").because(str(error))
        case StoreRefused():
            return _store_refused(str(error))
        case ContentsFull():
            return Refusal(507, f"{error}: make room where sessions.vault.url leads, or prune the vault")
        case ContentsAway():
            return Refusal(503, f"{error}; try again", retry_after=b"5")
        case NoneReadable():
            return Refusal(500, f"{error}; nothing was changed (sluice vault verify says what is wrong)")
        case Broken():
            return Refusal(503, f"{error}; try again", retry_after=b"5")
        case LowSpace():
            return Refusal(507, _DISK_FULL).because(str(error))
        case OSError() if error.errno in _FULL:
            return Refusal(507, _DISK_FULL).because(str(error))
    return None


def trouble_of(error: Exception) -> tuple[Kind, str] | None:
    """What a person has to know of a save that did not come as far as the vault itself, which notes its own."""
    refusal = refusal_of(error)
    if refusal is None or refusal.status not in _TROUBLES:
        return None
    return ("stale", STALE) if refusal.status == 409 else ("save", refusal.why)


def zip_refused(error: ProfileError) -> Refusal:
    """What is wrong with a zip that came."""
    if isinstance(error, TooLarge):
        return Refusal(413, str(error))
    return Refusal(400, str(error)) if isinstance(error, _FOREIGN) else too_long()


def outdated(reason: Refused) -> Refusal:
    return refused_for(reason, 409, _STALE if reason == "stale" else _DELETED)


def nothing_kept(session: str, found: NothingKept) -> Refusal:
    if found.deleted:
        return refused_for("deleted", 404, f"the login of {session} was deleted (sluice vault undelete takes it back)")
    return refused_for("none", 404, f"no login of {session} is kept")


def not_kept(generation: int, kept: Sequence[int]) -> Refusal:
    are = ", ".join(map(str, kept))
    return Refusal(412, f"generation {generation} is not kept any more, but {are}: start the session again with POST")


def refuse_save(known: Profile | None, fence: int, if_match: int | None) -> None:
    """Before anything of the body is read. Raises Refusal 409 or 412."""
    if known is not None and fence < known.fence:
        raise outdated("stale")
    newest = known.newest if known is not None and known.deleted is None else None
    if if_match is not None and (newest is None or newest.number != if_match):
        now = "there is none" if newest is None else f"that is {newest.number}"
        raise Refusal(412, f"generation {if_match} is not the newest one: {now}; look at it before you replace it")


def _store_refused(why: str) -> Refusal:
    if why.startswith(("OOM", "MISCONF")):
        return Refusal(507, "the store is full: give it more memory or disk, or prune the vault").because(why)
    return Refusal(503, "the store refuses it; see its log, and sluice status", retry_after=b"5").because(why)
