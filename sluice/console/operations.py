"""The table of all that can be asked of a running Sluice; HTTP API, OpenAPI and command line are made from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_type_hints

from sluice.console.actions import (
    circuits,
    dead_letters,
    events,
    finding,
    limits,
    moving,
    resending,
    session_cleaning,
    session_moves,
    sessions,
    status,
    vault,
    vault_checks,
    vault_upkeep,
    waiting,
)
from sluice.console.actions.deployment import Deployment, Problem

API = "/_sluice/api"
D = TypeVar("D", bound=Deployment)
Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Operation(Generic[D, Q, R]):
    """`path` is below `API`; its `{names}` are fields of the request, of which GET has the rest as its query
    and POST as a JSON object.
    """

    id: str
    method: Literal["GET", "POST"]
    path: str
    run: Callable[[D, Q], Awaitable[R | Problem]]

    @property
    def request(self) -> type[Q]:
        return cast(type[Q], _types(self.run)[0])

    @property
    def result(self) -> type[R]:
        return cast(type[R], _types(self.run)[1])

    @property
    def path_fields(self) -> tuple[str, ...]:
        return tuple(re.findall(r"{(\w+)}", self.path))

    @property
    def changes(self) -> bool:
        """So it is written into the audit log."""
        return self.method == "POST"


@lru_cache(maxsize=64)
def _types(run: Callable[..., Any]) -> tuple[Any, Any]:
    """Of its request and, apart from Problem, of its result."""
    *_, request, result = get_type_hints(run).values()
    return request, next((one for one in get_args(result) if one is not Problem), result)


SHOW_STATUS = Operation("show_status", "GET", "/status", status.show)
FIND_DEAD_LETTERS = Operation("find_dead_letters", "GET", "/dead", dead_letters.find)
SHOW_DEAD_LETTER = Operation("show_dead_letter", "GET", "/dead/{endpoint}/{id}", dead_letters.show)
REPLAY_DEAD_LETTERS = Operation("replay_dead_letters", "POST", "/dead/replay", dead_letters.replay)
DROP_DEAD_LETTERS = Operation("drop_dead_letters", "POST", "/dead/drop", dead_letters.drop)
LIST_WAITING = Operation("list_waiting", "GET", "/queue", waiting.find)
SHOW_WAITING = Operation("show_waiting", "GET", "/queue/{endpoint}/{id}", waiting.show)
SKIP_WAITING = Operation("skip_waiting", "POST", "/queue/skip", waiting.skip)
DROP_WAITING = Operation("drop_waiting", "POST", "/queue/drop", waiting.drop)
MOVE_QUEUE = Operation("move_queue", "POST", "/queue/move", moving.move)
LIST_CIRCUITS = Operation("list_circuits", "GET", "/circuits", circuits.list_circuits)
SHOW_LIMITS = Operation("show_limits", "GET", "/limits", limits.show)
RESET_LIMITS = Operation("reset_limits", "POST", "/limits/reset", limits.reset)
RELEASE_DELAYED = Operation("release_delayed", "POST", "/limits/release", limits.release)
HOLD_CIRCUIT = Operation("hold_circuit", "POST", "/circuits/{endpoint}", circuits.hold)
PROBE_CIRCUIT = Operation("probe_circuit", "POST", "/probes/{endpoint}", circuits.probe)
FIND_EVENTS = Operation("find_events", "GET", "/events", finding.find)
RESEND_EVENTS = Operation("resend_events", "POST", "/events/resend", resending.resend)
SHOW_EVENT = Operation("show_event", "GET", "/events/{id}", events.show)
LIST_SESSIONS = Operation("list_sessions", "GET", "/sessions", sessions.list_sessions)
SHOW_SESSION = Operation("show_session", "GET", "/sessions/{session}", sessions.show)
FORGET_SESSION = Operation("forget_session", "POST", "/forgotten/{session}", session_moves.forget)
MOVE_SESSION = Operation("move_session", "POST", "/moves/{session}", session_moves.move)
CLEAN_SESSIONS = Operation("clean_sessions", "POST", "/cleaning", session_cleaning.clean_sessions)
RESTORE_SESSION = Operation("restore_session", "POST", "/restored/{session}", session_moves.restore)
RELEASE_SESSION = Operation("release_session", "POST", "/releases/{session}", session_moves.release)
LIST_PROFILES = Operation("list_profiles", "GET", "/vault/sessions", vault.list_profiles)
SHOW_PROFILE = Operation("show_profile", "GET", "/vault/sessions/{session}", vault.show)
VERIFY_PROFILES = Operation("verify_profiles", "GET", "/vault/verify", vault_checks.verify)
PRUNE_PROFILES = Operation("prune_profiles", "POST", "/vault/prune", vault_upkeep.prune)
REKEY_PROFILES = Operation("rekey_profiles", "POST", "/vault/rekey", vault_upkeep.rekey)
DELETE_PROFILE = Operation("delete_profile", "POST", "/vault/delete/{session}", vault.delete)
UNDELETE_PROFILE = Operation("undelete_profile", "POST", "/vault/undelete/{session}", vault.undelete)

OPERATIONS: tuple[Operation[Any, Any, Any], ...] = (
    SHOW_STATUS,
    FIND_DEAD_LETTERS,
    SHOW_DEAD_LETTER,
    REPLAY_DEAD_LETTERS,
    DROP_DEAD_LETTERS,
    LIST_WAITING,
    SHOW_WAITING,
    SKIP_WAITING,
    DROP_WAITING,
    MOVE_QUEUE,
    LIST_CIRCUITS,
    HOLD_CIRCUIT,
    PROBE_CIRCUIT,
    SHOW_LIMITS,
    RESET_LIMITS,
    RELEASE_DELAYED,
    FIND_EVENTS,
    RESEND_EVENTS,
    SHOW_EVENT,
    LIST_SESSIONS,
    SHOW_SESSION,
    FORGET_SESSION,
    MOVE_SESSION,
    RELEASE_SESSION,
    RESTORE_SESSION,
    CLEAN_SESSIONS,
    LIST_PROFILES,
    SHOW_PROFILE,
    VERIFY_PROFILES,
    PRUNE_PROFILES,
    REKEY_PROFILES,
    DELETE_PROFILE,
    UNDELETE_PROFILE,
)
