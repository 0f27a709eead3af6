"""What is counted of requests for workers, beside the requests themselves (`sluice.http.server.metrics`)."""

from __future__ import annotations

from prometheus_client import Gauge

from sluice.observe.metrics import counts

_MISDIRECTED = counts(
    "sluice_session_requests_misdirected_total",
    "Requests that a worker answered 421, as the session had gone to another; they were sent once more.",
    [],
)
_FROM_LAST_KNOWN = counts(
    "sluice_session_status_from_last_known_total",
    "Status requests answered from what was last known, by why the worker's own answer was not given.",
    ["why"],
)
_HELD = Gauge(
    "sluice_session_requests_held",
    "Requests that wait because no worker has their session right now.",
    multiprocess_mode="livesum",
)


_JOINED = counts(
    "sluice_sends_joined_total",
    "Sends that were repeats of an attempt whose outcome had not reached its caller: they got that outcome.",
    [],
)
_UNSHIELDED = counts(
    "sluice_sends_unshielded_total", "Sends that a repeat would send twice, as too many are under way already.", []
)


def send_joined() -> None:
    _JOINED.add()


def send_unshielded() -> None:
    _UNSHIELDED.add()


def misdirected() -> None:
    _MISDIRECTED.add()


def from_last_known(why: str) -> None:
    """`unowned`, `no_worker`, `no_answer`, `store_away`, `restoring`, or `refused`: by us."""
    _FROM_LAST_KNOWN.add(why)


def held(requests: int) -> None:
    _HELD.set(requests)
