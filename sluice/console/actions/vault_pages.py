"""The vault, opened for an action, and its sessions: by name, a few seconds' work at a time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from sessions.profiles.errors import ContentsAway
from sessions.profiles.generations import Profile
from sluice.config.problems import quoted
from sluice.console.actions.deployment import (
    Deployment,
    Problem,
    ProblemKind,
    moment,
    not_found,
    unavailable as unavailable,
)

if TYPE_CHECKING:
    from sessions.profiles.vault import Vault

T = TypeVar("T")
_NO_VAULT = (
    "no vault is configured, so no logins are kept: write sessions.vault with a key into the policies (docs/vault.md)"
)
_NO_KEY = "a key that sessions.vault.key names is not here: export the variable, or make the file, that it names"
_SECONDS = 3.0
"""After which a call begins no other session: whoever waits for it hears how far it is."""
_AT_ONCE = 200
"""Sessions that one call looks at."""


def vault_of(deployment: Deployment) -> Vault | Problem:
    policy = deployment.policies.sessions.vault
    if policy is None:
        return conflict(_NO_VAULT)
    from sessions.profiles.opening import open_vault  # its libraries would make every other command start late

    return open_vault(policy, deployment.store)


def with_keys(deployment: Deployment) -> Vault | Problem:
    """One that can open what it keeps."""
    vault = vault_of(deployment)
    keyless = no_key(deployment)
    return vault if isinstance(vault, Problem) or keyless is None else conflict(keyless)


def no_key(deployment: Deployment) -> str | None:
    """Why nothing can be opened here: a command may run where the secrets of its policies are not."""
    policy = deployment.policies.sessions.vault
    return None if policy is None or all(policy.secrets) else _NO_KEY


async def following(vault: Vault, after: str | None, limit: int) -> list[Profile]:
    """The first `limit` sessions after this one, by name: pages are the same whatever comes and goes meanwhile."""
    found: list[Profile] = []
    go_on = "0"
    while True:
        go_on, some = await vault.generations.page(go_on)
        wanted = {one.session: one for one in (*found, *some) if after is None or one.session > after}
        found = sorted(wanted.values(), key=lambda one: one.session)[:limit]
        if go_on == "0":
            return found


async def through(
    vault: Vault, after: str | None, act: Callable[[Profile], Awaitable[T]]
) -> tuple[list[T], str | None] | Problem:
    """What came of the next sessions, at least one, and behind which one to go on.

    Where the folder or bucket is away in the midst of them, what was done before is told; the next call meets it again.
    """
    ends, done = time.monotonic() + _SECONDS, list[T]()
    found = await following(vault, after, _AT_ONCE + 1)
    for i, profile in enumerate(found):
        if i == _AT_ONCE or (i and time.monotonic() >= ends):
            return done, found[i - 1].session
        try:
            done.append(await act(profile))
        except ContentsAway as error:
            return (done, found[i - 1].session) if i else unavailable(str(error))
    return done, None


def unknown_profile(session: str) -> Problem:
    return not_found(f"nothing is kept of session {quoted(session)}; `sluice vault list` shows what is")


def conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)


def moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
