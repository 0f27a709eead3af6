"""The vault in the status: what the gateway has seen of it, and what went wrong with whose login."""

from __future__ import annotations

from collections.abc import Sequence

from sessions.profiles.policies import VaultPolicy
from sessions.profiles.summary import VaultSummary
from sessions.profiles.troubles import Trouble
from sessions.registry import Summary
from sluice.console.status import (
    DiskStatus,
    LateSnapshot,
    ProfileTrouble,
    ShrunkSnapshot,
    UnknownKey,
    VaultStatus,
    WaitingLogin,
)


def vault_status(
    policy: VaultPolicy | None, seen: VaultSummary | None, troubles: Sequence[Trouble], sessions: Summary | None
) -> VaultStatus | None:
    if policy is None or seen is None:
        return None
    return VaultStatus(
        place=seen.place,
        away=seen.away,
        misplaced=seen.misplaced,
        disk=DiskStatus(seen.disk.path, seen.disk.free, seen.disk.total) if seen.disk else None,
        sessions=seen.sessions,
        generations=seen.generations,
        keep=policy.generations,
        size=seen.size,
        stored=seen.stored,
        expected=_expected(seen, sessions),
        every_s=policy.every,
        late=tuple(LateSnapshot(one.session, one.age) for one in seen.late),
        late_total=seen.late_total,
        old_key=seen.old_key,
        unknown_keys=tuple(UnknownKey(one.key, one.generations, one.sessions, one.lost) for one in seen.unnamed),
        shrunk=tuple(ShrunkSnapshot(one.session, one.size, one.before) for one in seen.shrunk),
        shrunk_total=seen.shrunk_total,
        deleted=seen.deleted,
        deleted_stored=seen.deleted_stored,
        to_prune=seen.to_prune,
        waiting=tuple(WaitingLogin(one.session, one.source, one.host, one.age) for one in seen.waiting),
        waiting_total=seen.waiting_total,
        complete=seen.complete,
        troubles=tuple(
            ProfileTrouble(one.kind, one.session, one.times, one.since, one.last, one.reason) for one in troubles
        ),
    )


def _expected(seen: VaultSummary, sessions: Summary | None) -> int:
    """With the connected sessions that are not kept yet, each as large as those that are."""
    if not seen.sessions:
        return 0
    to_come = max(0, (sessions.connected if sessions else 0) - seen.sessions)
    return seen.needs + to_come * seen.needs // seen.sessions
