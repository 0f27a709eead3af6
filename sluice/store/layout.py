"""Which layout of the keys a store holds, so that no version reads what it cannot understand.

A release reads and writes its own layout and the one before, so two releases live side by side in one store for as long
as an upgrade, or the way back, takes (docs/upgrade.md). Owns the key `sl:{layout}`.
"""

from __future__ import annotations

from sluice.store import restoring
from sluice.store.client import Store, load_script

LAYOUT = 1
"""Of this version. It grows with a release that writes what the release before the last cannot read."""
KEY = "sl:{layout}"
KEY_PATTERNS = (KEY,)
_TIMEOUT = 5.0
_NOTE = load_script("sluice.store", "layout", drains=True)


class AnotherLayout(Exception):
    """Another version's keys are in the store; the message says what to do."""


async def check(url: str, layout: int = LAYOUT) -> None:
    """Before a process reads or writes anything else. Notes `layout` where it is a new one.

    Raises AnotherLayout, restoring.BeingRestored, StoreAway or StoreRefused.
    """
    store = Store(url, timeout=_TIMEOUT)
    try:
        await restoring.refuse(store)
        found = int(await store.run(_NOTE, (KEY,), (layout,)))
    finally:
        await store.close()
    if found < layout - 1:
        raise AnotherLayout(
            f"the store has layout {found}, and this version reads {layout - 1} and {layout}: upgrade by one release "
            "at a time (docs/upgrade.md)"
        )
    if found > layout + 1:
        raise AnotherLayout(
            f"the store has layout {found}, which a later release wrote, and this version reads {layout} and "
            f"{layout + 1}: start that release again, or restore a backup of before (docs/upgrade.md)"
        )
