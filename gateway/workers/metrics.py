"""What is counted of requests for workers, beside the requests themselves (`sluice.http.server.metrics`)."""

from __future__ import annotations

from prometheus_client import Gauge

from sluice.observe.metrics import counts, recent

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


_SENDS = counts("sluice_shielded_sends_total", "What the shield of sends did, and what it could not do.", ["what"])
recent(_SENDS, "sluice_shielded_sends_total", ["what"])


def send(what: str, sends: int = 1) -> None:
    """`joined`: it was a repeat, and got the outcome of the first attempt. `unknown`: nobody knows what a worker made
    of it. `unshielded`: too many are under way, and a repeat would be sent. `given_up`: a recipient of a bulk-send, of
    which an earlier piece failed."""
    for _ in range(sends):
        _SENDS.add(what)


def misdirected() -> None:
    _MISDIRECTED.add()


def from_last_known(why: str) -> None:
    """`unowned`, `no_worker`, `no_answer`, `store_away`, `restoring`, or `refused`: by us."""
    _FROM_LAST_KNOWN.add(why)


def held(requests: int) -> None:
    _HELD.set(requests)
