"""A vault whose saves and restores are counted, and whose failures are noted for `status`."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from pathlib import Path

from sessions.profiles import metrics, troubles
from sessions.profiles.contents import Contents, Manifests
from sessions.profiles.errors import ProfileError
from sessions.profiles.generations import Generations, Profile, Refused
from sessions.profiles.manifest import Origin
from sessions.profiles.vault import NoneReadable, NothingKept, Restored, Saved, Vault
from sluice.store.client import Store, StoreAway, StoreRefused

_STORE_FULL = ("OOM", "MISCONF")


class ObservedVault(Vault):
    def __init__(self, store: Store, contents: Contents, secrets: Sequence[bytes], keep: int) -> None:
        super().__init__(Generations(store), Manifests(store), contents, secrets, keep=keep)
        self._store = store

    async def save(self, session: str, fence: int, profile: Path, origin: Origin) -> Saved | Refused:
        began = time.monotonic()
        try:
            saved = await super().save(session, fence, profile, origin)
        except StoreAway:
            metrics.save("away")
            raise
        except (ProfileError, OSError, StoreRefused) as error:
            metrics.save("failed")
            await troubles.note(self._store, "save", session, reason_of(error))
            raise
        if isinstance(saved, Saved):
            metrics.save("saved", time.monotonic() - began, saved.written)
            await troubles.end(self._store, session, ("save", "restore"))
            return saved
        metrics.save(saved)
        if saved == "stale":
            await troubles.note(self._store, "stale", session, troubles.STALE)
        return saved

    async def restore(
        self, session: str, profile: Path, known: Profile | None = None, *, passed_over: Sequence[str] = ()
    ) -> Restored | NothingKept:
        began = time.monotonic()
        try:
            found = await super().restore(session, profile, known, passed_over=passed_over)
        except StoreAway:
            metrics.restore("away")
            raise
        except (ProfileError, OSError, StoreRefused) as error:
            metrics.restore("unreadable" if isinstance(error, NoneReadable) else "failed")
            await troubles.note(self._store, "restore", session, reason_of(error))
            raise
        if isinstance(found, NothingKept):
            metrics.restore("nothing")
            return found
        metrics.restore("fell_back" if found.skipped else "restored", time.monotonic() - began)
        await troubles.end(self._store, session, ("restore",))
        if found.skipped:
            await troubles.note(self._store, "fell_back", session, found.skipped[0])
        return found

    async def erase(self, session: str) -> None:
        await super().erase(session)
        await troubles.end(self._store, session)


def reason_of(error: Exception) -> str:
    """For a person, with the cure."""
    text = str(error)
    if isinstance(error, StoreRefused) and text.startswith(_STORE_FULL):
        cure = "give it more memory or disk, or set sessions.vault.url to a folder or a bucket"
        return f"the store is full ({text}): {cure}"
    if not isinstance(error, OSError) or error.strerror is None:
        return text
    where = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{where}; make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else where
