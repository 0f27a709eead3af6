"""What went wrong with whose profile: noted by whoever meets it, told by `status` until it is over.

A save that goes well ends what earlier ones met; what a person has to know all the same ends by itself after a day.
Vaults of `sessions.profiles.opening` note what their own saves and restores meet. Call `note` for what never came so
far, such as a zip that was refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused, load_script

LOG = Log("sessions")
Kind = Literal["save", "restore", "fell_back", "stale"]
"""It could not be saved; no generation of it could be restored; newer ones were passed over; a save or a delete of an
older start was refused."""
STALE = "a save or a delete of an older start was refused"
KINDS: tuple[Kind, ...] = get_args(Kind)
KEY_PATTERNS = ("sl:{vault}:troubles",)
_MOST = 300
_ENDED = 86_400.0
"""Seconds after the last time."""
_LONGEST = 300
_NOTE = load_script("sessions.profiles", "note", drains=True)  # a store that is full is one of the troubles
_TROUBLES = load_script("sessions.profiles", "troubles", drains=True)


@dataclass(frozen=True, slots=True)
class Trouble:
    kind: Kind
    session: str
    times: int
    since: float
    """Seconds since it happened first, with no day between two times."""
    last: float
    """Seconds since it happened last."""
    reason: str


async def note(store: Store, kind: Kind, session: str, reason: str) -> None:
    """Never raises: what is told of a failure must not be another one."""
    LOG.warning("profile.trouble", session=session, kind=kind, reason=reason)
    try:
        await store.run(_NOTE, KEY_PATTERNS, (kind, session, reason[:_LONGEST], _MOST, round(_ENDED * 1000)))
    except (StoreAway, StoreRefused) as error:
        LOG.warning("profile.trouble_not_noted", session=session, reason=str(error))


async def end(store: Store, session: str, kinds: Iterable[Kind] = KINDS) -> None:
    """They are over. Never raises either."""
    try:
        await store.commands(("HDEL", *KEY_PATTERNS, *(f"{kind} {session}" for kind in kinds)))
    except (StoreAway, StoreRefused) as error:
        LOG.warning("profile.trouble_not_ended", session=session, reason=str(error))


async def known(store: Store) -> list[Trouble]:
    """A few hundred at most, the latest first. Raises StoreAway and StoreRefused."""
    found = await store.run(_TROUBLES, KEY_PATTERNS, (round(_ENDED * 1000),))
    rows = [_trouble(found[i : i + 5]) for i in range(0, len(found), 5)]
    return sorted((row for row in rows if row is not None), key=lambda row: (row.last, row.session))


def _trouble(cells: list[bytes | int]) -> Trouble | None:
    field, times, since, last, reason = cells
    assert isinstance(field, bytes)
    assert isinstance(reason, bytes)
    name, _, session = field.decode().partition(" ")
    kind = next((one for one in KINDS if one == name), None)
    if kind is None:  # a newer Sluice beside us has noted it
        return None
    return Trouble(kind, session, int(times), int(since) / 1000, int(last) / 1000, reason.decode())
