"""Logins that are not kept as they should be, or could not be restored."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from sluice.console.messages.wording import age, size, some
from sluice.console.status import ProfileTrouble, StoreStatus, UnknownKey, VaultStatus

_NAMED = 5
_FULL = 0.8
_FREE_SHARE, _FREE_BYTES = 0.1, 10 * 1024**3
_STALE_FOR = 3600.0  # seconds: whoever is refused and still runs comes again before that


def vault(vault: VaultStatus | None, store: StoreStatus) -> Iterator[str]:
    if vault is None:
        return
    if vault.away is not None:
        yield f"the vault cannot be reached, so no login is saved or restored: {vault.away}"
    if vault.misplaced is not None:
        yield (
            f"nothing lies in {vault.place} of session {vault.misplaced}, which was saved: mount what belongs there, "
            "or set sessions.vault.url back to where the vault lies; until then logins are saved in the wrong place"
        )
    yield from map(_unknown_key, vault.unknown_keys)
    yield from _troubles(vault)
    yield from _late(vault)
    if vault.shrunk:
        one = vault.shrunk[0]
        its = some(vault.shrunk_total, "session has", "sessions have")
        yield (
            f"the newest snapshots of {its} less than a quarter of what one before had, such as {one.session} "
            f"({size(one.size)}, and {size(one.before)} before, which is kept): see that it is connected, and with "
            "sluice vault show what is kept"
        )
    yield from memory(vault, store)
    yield from _disk(vault)
    if vault.to_prune:
        its = some(vault.to_prune, "login was deleted", "logins were deleted")
        yield (
            f"{its} over a week ago and can still be taken back (sluice vault undelete SESSION); what is kept of "
            f"deleted ones takes {size(vault.deleted_stored)}: sluice vault prune erases it"
        )
    if vault.waiting:
        longest = vault.waiting[0]
        its = some(vault.waiting_total, "login waits", "logins wait")
        yield (
            f"{its} to be moved into the vault, as a browser runs there; the longest, for {age(longest.age_s)}, that "
            f"of session {longest.session} on {longest.host}: stop its worker when it suits you, and then there: "
            f"sluice sessions migrate {shlex.quote(longest.source)} --all --yes"
        )
    if not vault.complete:
        yield f"the vault has more sessions than the {vault.sessions:,} that are looked at here: see sluice vault list"


def memory(vault: VaultStatus, store: StoreStatus) -> Iterator[str]:
    """Whether what the vault may come to need fits the store's memory; for `sluice check`, too."""
    most = store.max_memory or store.machine
    if vault.place != "store" or not most or store.memory is None:
        return
    others = max(0, store.memory - vault.stored)
    if others + vault.expected <= _FULL * most:
        return
    which = "maxmemory" if store.max_memory else "the memory of its machine"
    each = vault.size / vault.sessions if vault.sessions else 0
    yield (
        f"profiles may not fit the store: they use {size(vault.stored)}, and may come to need {size(vault.expected)} "
        f"({size(each)} a session, {some(vault.keep, 'generation', 'generations')} each), while all else in it uses "
        f"{size(others)} of {size(most)}, {which}: give it more, keep fewer generations, or set sessions.vault.url to "
        "a folder or a bucket"
    )


def _unknown_key(unknown: UnknownKey) -> str:
    lost = some(unknown.lost, "session has no other and starts", "sessions have no others and start")
    its = some(unknown.sessions, "session", "sessions")
    return (
        f"{some(unknown.generations, 'generation', 'generations')} of {its} cannot be read, as sessions.vault.key does "
        f"not name their key {unknown.key}: name it behind the new one, [env:NEW, env:OLD]; "
        f"{lost} with a QR code until then"
    )


def _troubles(vault: VaultStatus) -> Iterator[str]:
    said = 0
    for kind in ("restore", "fell_back", "save", "stale"):
        groups: dict[str, list[ProfileTrouble]] = {}
        for one in vault.troubles:
            if one.kind == kind and not (kind == "stale" and one.last_s > _STALE_FOR):
                groups.setdefault(one.reason, []).append(one)
        for group in groups.values():
            said += 1
            if said <= _NAMED:
                yield _trouble(group)
    if said > _NAMED:
        yield f"{some(said - _NAMED, 'more trouble', 'more troubles')} with logins: profile.trouble in the log"


def _trouble(group: Sequence[ProfileTrouble]) -> str:
    """Several that have the same reason have the same cure."""
    one = group[0]
    others = len(group) - 1
    whose = f"session {one.session}" + (f" and {some(others, 'other', 'others')}" if others else "")
    when = f"{some(one.times, 'time', 'times')}, the last {age(one.last_s)} ago"
    match one.kind:
        case "restore":
            return (
                f"the login of {whose} could not be restored ({when}): {one.reason}; it is kept: "
                f"sluice vault verify {one.session} says what can be read"
            )
        case "fell_back":
            return (
                f"the login of {whose} was restored from an older generation ({when}), as the newest could not be "
                f"used: {one.reason}; see that the session runs, and the disk of the vault"
            )
        case "save":
            return f"the login of {whose} could not be saved ({when}), and the one before is kept: {one.reason}"
    return (
        f"an older start of {whose} was not let save its login ({when}), as a later one has the session: see that no "
        "other process runs it still, and stop that one"
    )


def _late(vault: VaultStatus) -> Iterator[str]:
    if not vault.late:
        return
    oldest = vault.late[0]
    how = f"not at all ({oldest.session})" if oldest.age_s is None else f"{age(oldest.age_s)} ago ({oldest.session})"
    its = some(vault.late_total, "connected session was", "connected sessions were")
    yield (
        f"{its} not saved for over {age(3 * vault.every_s)}, three times sessions.vault.every; the longest, {how}: a "
        "dead machine would cost what came since; see its worker's log, and that it saves to the vault (docs/vault.md)"
    )


def _disk(vault: VaultStatus) -> Iterator[str]:
    disk = vault.disk
    if disk is not None and disk.free < min(_FREE_BYTES, _FREE_SHARE * disk.total):
        yield (
            f"the disk of the vault in {disk.path} is {1 - disk.free / disk.total:.0%} full, {size(disk.free)} left: "
            "when it is full no login is saved; free some, or erase what nobody needs: sluice vault prune"
        )
