"""Sessions of one phone in one workspace beside the one that is connected with it, for a person who wants them gone.

Of two that are connected the registry has decided which one yields; of the others the same is decided as before a
create (`same_phone`). A QR code that somebody may be about to scan is left its time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sessions.ending import Why
from sessions.lifecycle.closing import Closing, Outcome
from sessions.lifecycle.phones import Keep, digits
from sessions.lifecycle.policies import Cleanup
from sessions.lifecycle.same_phone import useless
from sessions.records import SessionRow
from sessions.registry import Registry

_PAGE = 1000
_LOOKED_AT = 100_000
Phone = tuple[str, str]
"""Workspace and digits."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    row: SessionRow
    stays: str
    """The session that is connected with its phone."""
    why: Why
    in_words: str


async def find(registry: Registry, policy: Cleanup, keep: Keep, most: int) -> AsyncIterator[Duplicate]:
    """Some of them; with `allow` all that are connected stay. Raises StoreAway and StoreRefused."""
    now, connected, others = await registry.time() / 1000, dict[Phone, str](), list[tuple[Phone, SessionRow]]()
    yields = {} if keep == "allow" else {one.session: one.stays for one in await registry.rivals(most)}
    found = 0
    go_on = ""
    for _ in range(0, _LOOKED_AT, _PAGE):
        page = await registry.page(go_on, _PAGE)
        for row in page.rows:
            if row.session in yields and _is_connected(row):
                found += 1
                yield Duplicate(row, yields[row.session], "superseded", f"connected, as {yields[row.session]} is")
            elif (phone := digits(row.phone or "")) and not row.ended:
                place = (row.workspace or "", phone)
                if _is_connected(row):
                    connected.setdefault(place, row.session)
                else:
                    others.append((place, row))
            if found >= most:
                return
        go_on = page.go_on
        if not go_on:
            break
    for place, row in others:
        useless_here = useless(row, connected.get(place, ""), policy, now) if place in connected else None
        if useless_here is not None:
            found += 1
            yield Duplicate(row, connected[place], useless_here.why, useless_here.in_words)
        if found >= most:
            return


async def clean(closing: Closing, one: Duplicate, by: str) -> Outcome:
    """Ends it, if it is still as it was found. Raises StoreAway and StoreRefused."""
    row = one.row
    return await closing.end(
        row.session,
        one.why,
        by=by,
        stays=one.stays if one.why == "superseded" else "",
        state=row.state,
        since=row.since,
        unowned=row.worker is None,
    )


def _is_connected(row: SessionRow) -> bool:
    return row.worker is not None and row.state == "connected" and not row.ended
