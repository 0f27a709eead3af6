"""The table of all that can be asked of a running Sluice; HTTP API, OpenAPI and command line are made from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_type_hints

from sessions.lifecycle.at_worker import CREATED_WITHIN
from sessions.lifecycle.closing import WITHIN as CLOSED_WITHIN
from sessions.lifecycle.restarting import WITHIN as RESTARTED_WITHIN
from sluice.console.actions import (
    account_cleaning,
    alerts,
    audit_log,
    circuits,
    dead_letters,
    duplicate_cleaning,
    endpoint_trial,
    events,
    explaining,
    finding,
    history,
    limits,
    limits_nearest,
    moving,
    resending,
    session_cleaning,
    session_closing,
    session_creating,
    session_moves,
    session_pairing,
    session_rebalancing,
    session_watching,
    sessions,
    status,
    trying,
    vault,
    vault_checks,
    vault_upkeep,
    waiting,
    worker_draining,
)
from sluice.console.actions.deployment import Deployment, Problem

API = "/_sluice/api"
_MANY_CLOSED = 300.0
"""Seconds: existing workers are asked to close one session after the other, each for `CLOSED_WITHIN` at most."""
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
    is_secret: bool = False
    """Though it changes nothing, only the operator may ask it: who has the answer can act by it, or knows
    which files the machine has."""
    reveals: Callable[[R], bool] | None = None
    """Whether an answer of it let its reader act, so that who had it is written into the audit log."""
    asks: bool = False
    """It changes nothing, though it is a POST: what it asks about is too much for a query."""
    max_body: int = 64 * 1024
    """Bytes."""
    takes: float = 20.0
    """Seconds for which it may go on; who asks for it waits a little longer."""

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
        return self.method == "POST" and not self.asks


@lru_cache(maxsize=64)
def _types(run: Callable[..., Any]) -> tuple[Any, Any]:
    """Of its request and, apart from Problem, of its result."""
    *_, request, result = get_type_hints(run).values()
    return request, next((one for one in get_args(result) if one is not Problem), result)


SHOW_STATUS = Operation("show_status", "GET", "/status", status.show)
SHOW_HISTORY = Operation("show_history", "GET", "/history", history.show)
FIND_DEAD_LETTERS = Operation("find_dead_letters", "GET", "/dead", dead_letters.find)
SHOW_DEAD_LETTER = Operation("show_dead_letter", "GET", "/dead/{endpoint}/{id}", dead_letters.show)
REPLAY_DEAD_LETTERS = Operation("replay_dead_letters", "POST", "/dead/replay", dead_letters.replay)
DROP_DEAD_LETTERS = Operation("drop_dead_letters", "POST", "/dead/drop", dead_letters.drop)
LIST_WAITING = Operation("list_waiting", "GET", "/queue", waiting.find)
SHOW_WAITING = Operation("show_waiting", "GET", "/queue/{endpoint}/{id}", waiting.show)
SKIP_WAITING = Operation("skip_waiting", "POST", "/queue/skip", waiting.skip)
DROP_WAITING = Operation("drop_waiting", "POST", "/queue/drop", waiting.drop)
MOVE_QUEUE = Operation("move_queue", "POST", "/queue/move", moving.move)
LIST_AUDIT = Operation("list_audit", "GET", "/audit", audit_log.list_audit)
LIST_CIRCUITS = Operation("list_circuits", "GET", "/circuits", circuits.list_circuits)
SHOW_LIMITS = Operation("show_limits", "GET", "/limits", limits.show)
NEAREST_LIMITS = Operation("nearest_limits", "GET", "/limits/nearest", limits_nearest.nearest)
RESET_LIMITS = Operation("reset_limits", "POST", "/limits/reset", limits.reset)
RELEASE_DELAYED = Operation("release_delayed", "POST", "/limits/release", limits.release)
HOLD_CIRCUIT = Operation("hold_circuit", "POST", "/circuits/{endpoint}", circuits.hold)
PROBE_CIRCUIT = Operation("probe_circuit", "POST", "/probes/{endpoint}", circuits.probe)
SHOW_POLICIES = Operation("show_policies", "GET", "/policies", trying.show_policies)
TRY_POLICIES = Operation(
    "try_policies", "POST", "/policies/try", trying.try_policies,
    is_secret=True, asks=True, max_body=4 * trying.MAX_TEXT, takes=trying.WITHIN,
)  # fmt: skip
EXPLAIN_REQUEST = Operation("explain_request", "POST", "/explain", explaining.explain_request, asks=True)
FIND_EVENTS = Operation("find_events", "GET", "/events", finding.find)
RESEND_EVENTS = Operation("resend_events", "POST", "/events/resend", resending.resend)
SHOW_EVENT = Operation("show_event", "GET", "/events/{id}", events.show)
TRY_ENDPOINT = Operation("try_endpoint", "POST", "/tries/{endpoint}", endpoint_trial.try_endpoint)
LIST_SESSIONS = Operation("list_sessions", "GET", "/sessions", sessions.list_sessions)
SHOW_SESSION = Operation("show_session", "GET", "/sessions/{session}", sessions.show)
CREATE_SESSION = Operation(
    "create_session", "POST", "/created/{session}", session_creating.create, takes=CREATED_WITHIN
)
SHOW_QR = Operation(
    "show_qr", "GET", "/qr/{session}", session_pairing.show_qr, is_secret=True, reveals=session_pairing.shows_a_code
)
PAIR_SESSION = Operation("pair_session", "POST", "/pairing/{session}", session_pairing.pair)
LOG_OUT_SESSION = Operation("log_out_session", "POST", "/logouts/{session}", session_closing.log_out)
DELETE_SESSION = Operation("delete_session", "POST", "/deleted/{session}", session_closing.delete, takes=CLOSED_WITHIN)
FORGET_SESSION = Operation("forget_session", "POST", "/forgotten/{session}", session_moves.forget)
MOVE_SESSION = Operation("move_session", "POST", "/moves/{session}", session_moves.move)
CLEAN_SESSIONS = Operation("clean_sessions", "POST", "/cleaning", session_cleaning.clean_sessions, takes=_MANY_CLOSED)
CLEAN_DUPLICATES = Operation(
    "clean_duplicates", "POST", "/cleaning/duplicates", duplicate_cleaning.clean_duplicates, takes=_MANY_CLOSED
)
REBALANCE_SESSIONS = Operation("rebalance_sessions", "POST", "/rebalancing", session_rebalancing.rebalance)
CLEAN_ACCOUNTS = Operation(
    "clean_accounts", "POST", "/cleaning/accounts", account_cleaning.clean_accounts, takes=_MANY_CLOSED
)
RESTORE_SESSION = Operation("restore_session", "POST", "/restored/{session}", session_moves.restore)
WATCH_SESSIONS = Operation("watch_sessions", "GET", "/unhealthy", session_watching.watch)
RESTART_SESSION = Operation(
    "restart_session", "POST", "/restarts/{session}", session_watching.restart, takes=RESTARTED_WITHIN
)
RELEASE_SESSION = Operation("release_session", "POST", "/releases/{session}", session_moves.release)
DRAIN_WORKER = Operation("drain_worker", "POST", "/drains/{worker}", worker_draining.drain)
LIST_PROFILES = Operation("list_profiles", "GET", "/vault/sessions", vault.list_profiles)
SHOW_PROFILE = Operation("show_profile", "GET", "/vault/sessions/{session}", vault.show)
VERIFY_PROFILES = Operation("verify_profiles", "GET", "/vault/verify", vault_checks.verify)
PRUNE_PROFILES = Operation("prune_profiles", "POST", "/vault/prune", vault_upkeep.prune)
REKEY_PROFILES = Operation("rekey_profiles", "POST", "/vault/rekey", vault_upkeep.rekey)
DELETE_PROFILE = Operation("delete_profile", "POST", "/vault/delete/{session}", vault.delete)
UNDELETE_PROFILE = Operation("undelete_profile", "POST", "/vault/undelete/{session}", vault.undelete)
LIST_ALERTS = Operation("list_alerts", "GET", "/alerts", alerts.list_alerts)
TEST_ALERTS = Operation("test_alerts", "POST", "/alerts/test", alerts.test)
SILENCE_ALERTS = Operation("silence_alerts", "POST", "/alerts/silence", alerts.silence)
UNSILENCE_ALERTS = Operation("unsilence_alerts", "POST", "/alerts/unsilence", alerts.unsilence)

OPERATIONS: tuple[Operation[Any, Any, Any], ...] = (
    SHOW_STATUS,
    SHOW_HISTORY,
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
    NEAREST_LIMITS,
    RESET_LIMITS,
    RELEASE_DELAYED,
    SHOW_POLICIES,
    TRY_POLICIES,
    EXPLAIN_REQUEST,
    FIND_EVENTS,
    RESEND_EVENTS,
    SHOW_EVENT,
    TRY_ENDPOINT,
    LIST_SESSIONS,
    SHOW_SESSION,
    CREATE_SESSION,
    SHOW_QR,
    PAIR_SESSION,
    LOG_OUT_SESSION,
    DELETE_SESSION,
    FORGET_SESSION,
    MOVE_SESSION,
    RELEASE_SESSION,
    WATCH_SESSIONS,
    RESTART_SESSION,
    RESTORE_SESSION,
    CLEAN_SESSIONS,
    CLEAN_DUPLICATES,
    CLEAN_ACCOUNTS,
    REBALANCE_SESSIONS,
    DRAIN_WORKER,
    LIST_PROFILES,
    SHOW_PROFILE,
    VERIFY_PROFILES,
    PRUNE_PROFILES,
    REKEY_PROFILES,
    DELETE_PROFILE,
    UNDELETE_PROFILE,
    LIST_AUDIT,
    LIST_ALERTS,
    TEST_ALERTS,
    SILENCE_ALERTS,
    UNSILENCE_ALERTS,
)
