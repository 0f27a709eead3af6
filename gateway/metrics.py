"""What the edge counts, beside the requests themselves (`sluice.http.server.metrics`)."""

from __future__ import annotations

from typing import Final

from prometheus_client import Gauge

from sluice.history.charted import chart
from sluice.observe.metrics import CIRCUIT_VALUES, SECONDS, counts, histograms, recent

_DECISIONS: Final = counts("sluice_limit_decisions_total", "What a limit decided.", ["limit", "decision"])
_WITHOUT_STORE: Final = counts(
    "sluice_limiter_store_away_total", "Decisions taken while the store was away.", ["limit"]
)
_UNKNOWN_PREFIXES: Final = counts("sluice_unknown_prefixes_total", "Requests under a prefix that no worker has.", [])
recent(_UNKNOWN_PREFIXES, "sluice_unknown_prefixes_total", [])
_AMBIGUOUS_PATHS: Final = counts(
    "sluice_ambiguous_paths_total", "Requests refused as their path can be read in more than one way.", []
)
recent(_AMBIGUOUS_PATHS, "sluice_ambiguous_paths_total", [])
_RETURNED: Final = counts(
    "sluice_returned_requests_total", "Requests refused with 508, as they had passed this gateway before.", []
)
recent(_RETURNED, "sluice_returned_requests_total", [])
_ACCOUNTS: Final = counts(
    "sluice_accounts_asked_total", "Questions of workers which sessions to start, by what came of them.", ["outcome"]
)
_SESSIONS_ENDED: Final = counts(
    "sluice_sessions_ended_total", "Sessions that were ended and of which Laravel was told, by why.", ["why"]
)
_NOT_ANNOUNCED: Final = counts(
    "sluice_sessions_not_announced_total",
    "Times session_ready was not given to Laravel, as an older session of the phone stays (one_phone: oldest).",
    [],
)
_RESERVED_REFUSED: Final = counts(
    "sluice_reserved_refused_total", "Requests for /_sluice/ that were refused, by what for.", ["reason"]
)
recent(_RESERVED_REFUSED, "sluice_reserved_refused_total", ["reason"])
recent(_DECISIONS, "sluice_limit_decisions_total", ["limit", "decision"])
recent(_WITHOUT_STORE, "sluice_limiter_store_away_total", ["limit"])
_REQUESTS: Final = counts(
    "sluice_upstream_requests_total", "Requests to an upstream, by what came of them.", ["upstream", "outcome"]
)
RECENT_REQUESTS: Final = recent(_REQUESTS, "sluice_upstream_requests_total", ["upstream", "outcome"])
chart("limits", _DECISIONS, lambda labels: (labels[0], labels[1]))
chart("upstreams", _REQUESTS, lambda labels: (labels[0], "answered" if labels[1] == "answered" else "failed"))
_SECONDS: Final = histograms(
    "sluice_upstream_seconds",
    "From asking an upstream to the head of its answer.",
    ["upstream"],
    (0.005, 0.025, 0.1, 0.5, 2.5, 10),
)
_SHARES: Final = counts(
    "sluice_client_shares_refused_total",
    "Requests refused as their client's address uses its share of the connections to an upstream.",
    ["upstream"],
)
recent(_SHARES, "sluice_client_shares_refused_total", ["upstream"])
_FAILING: Final = Gauge(
    "sluice_upstream_failing_seconds",
    "For how long a large share of the requests to an upstream has failed; the longest of all processes.",
    ["upstream"],
    multiprocess_mode="livemax",
)
_OUTCOMES: Final = ["answered"] * 500 + ["500", "500", "502", "503", "504"] + ["500"] * 495
"""By status: any other of 5xx counts as 500. No tuple: mypyc would take all of it apart for each look."""
_UPSTREAM_CIRCUIT: Final = Gauge(
    "sluice_upstream_circuit_open",
    "0 closed, 0.5 half-open, 1 open; the worst of all processes.",
    ["upstream"],
    multiprocess_mode="livemax",
)
_MEMBER_OUT: Final = Gauge(
    "sluice_upstream_member_out",
    "1 while a member of an upstream with several is left out; the worst of all processes.",
    ["upstream", "member"],
    multiprocess_mode="livemax",
)
_FAILED_OVER: Final = counts(
    "sluice_upstream_failovers_total", "Requests that went on to another member of their upstream.", ["upstream"]
)
_FAILOVER_SECONDS: Final = histograms(
    "sluice_upstream_failover_seconds",
    "From asking a member to going on to another, as it failed.",
    ["upstream"],
    SECONDS,
)
_HELD: Final = Gauge(
    "sluice_held_requests",
    "Requests that wait because they cannot be stored or decided now.",
    multiprocess_mode="livesum",
)


_WAITING: Final = Gauge(
    "sluice_requests_waiting_for_tokens",
    "Requests that limits with over: hold keep waiting now.",
    multiprocess_mode="livesum",
)


UPSTREAM_CIRCUITS: Final[dict[str, float]] = {}
"""The values of the circuits of this process, by upstream, also of those that an edit has taken away."""


def decided(limit: str, decision: str) -> None:
    """`allowed`, `delayed`, `dropped`, `rejected`, or `would_reject` of a limit that only observes. A request that had
    to wait for tokens is `held`, and afterwards `allowed` or `rejected` as well."""
    _DECISIONS.add(limit, decision)


def share_refused(upstream: str) -> None:
    _SHARES.add(upstream)


def unknown_prefix() -> None:
    _UNKNOWN_PREFIXES.add()


def ambiguous_path() -> None:
    _AMBIGUOUS_PATHS.add()


def returned() -> None:
    _RETURNED.add()


def reserved_refused(reason: str) -> None:
    """`denied`, `not_allowed`, `host` or `listener`; of `console.token`: `token` (a wrong one) or `limited`."""
    _RESERVED_REFUSED.add(reason)


def accounts_asked(outcome: str) -> None:
    """`divided`, `undivided`, `passed_on` or `refused`."""
    _ACCOUNTS.add(outcome)


def decided_without_store(limit: str) -> None:
    _WITHOUT_STORE.add(limit)


def upstream_circuit(upstream: str, state: str) -> None:
    UPSTREAM_CIRCUITS[upstream] = CIRCUIT_VALUES[state]
    _UPSTREAM_CIRCUIT.labels(upstream).set(CIRCUIT_VALUES[state])


def upstream_member_out(upstream: str, member: str, *, out: bool) -> None:
    _MEMBER_OUT.labels(upstream, member).set(float(out))


def upstream_failed_over(upstream: str, seconds: float) -> None:
    """`seconds`: from asking the member that failed."""
    _FAILED_OVER.add(upstream)
    _FAILOVER_SECONDS.observe(seconds, upstream)


def held(requests: int) -> None:
    _HELD.set(requests)


def waiting_for_tokens(requests: int) -> None:
    _WAITING.set(requests)


def upstream_answered(upstream: str, status: int, seconds: float) -> None:
    _REQUESTS.add(upstream, _OUTCOMES[status])
    _SECONDS.observe(seconds, upstream)


def upstream_failed(upstream: str, outcome: str) -> None:
    """Without an answer: see `gateway.proxy.upstream.outcome_of`."""
    _REQUESTS.add(upstream, outcome)


def upstream_fails_for(upstream: str, seconds: float) -> None:
    _FAILING.labels(upstream).set(seconds)


def session_ended(why: str) -> None:
    _SESSIONS_ENDED.add(why)


def session_not_announced() -> None:
    _NOT_ANNOUNCED.add()
