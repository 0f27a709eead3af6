"""All that a worker needs to run sessions in browsers, from the policies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sessions.policies import SessionsPolicy
from sessions.profiles.browsers import browser_at
from sessions.profiles.names import folder_of
from sessions.profiles.opening import open_vault
from sessions.worker.browser import executable, wa_js
from sessions.worker.browser.attendant import Equipment
from sessions.worker.browser.guarded import Guard
from sessions.worker.browser.keeping import Keeping
from sessions.worker.browser.login import BrowserLogin
from sessions.worker.browser.passed_on import PassedOn
from sessions.worker.browser.playwrights import Playwrights
from sessions.worker.browser.starts import Starts
from sessions.worker.dropped import Dropped
from sessions.worker.ids import SentIds
from sessions.worker.policies import BrowserPolicy
from sessions.worker.worker import Emit, MakeLogin
from sluice.store.client import Store

FOLDER = "profiles"
_EVERY = 600.0


@asynccontextmanager
async def browser_logins(
    policy: SessionsPolicy, data: Path, store: Store, guard: Guard | None = None, dropped: Dropped | None = None
) -> AsyncIterator[MakeLogin]:
    """`guard`: is told of each browser; `dropped`: of each event that is not passed on. Raises NotInstalled, and
    ProfileError for a browser that does not say what it is."""
    about = policy.browser or BrowserPolicy()
    path, starts = executable.find(about.path), Starts(about.start_at_once)
    script = wa_js.load()
    browser = await browser_at(path)
    vault = open_vault(policy.vault, store) if policy.vault is not None else None
    every = policy.vault.every if policy.vault is not None else _EVERY
    equipment = Equipment(
        Playwrights(), path, script, browser, SentIds(store), guard or Guard(), dropped or Dropped(), starts
    )

    def make(session: str, fence: int, emit: Emit, may_act: Callable[[], bool]) -> BrowserLogin:
        profile = data / FOLDER / folder_of(session)
        keeping = Keeping(vault, session, fence, profile, browser, every, PassedOn(store, session))
        return BrowserLogin(session, fence, profile, equipment, keeping, emit, may_act)

    ready = asyncio.create_task(equipment.playwrights.get())  # not only when the first session waits for it
    ready.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        yield make
    finally:
        await asyncio.wait([ready])
        await equipment.playwrights.close()
