"""What the HTTP server counts."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from sluice.history.charted import chart, chart_seconds
from sluice.observe.metrics import SECONDS, counts, histograms, recent

_KNOWN: Final = {
    *(status.value for status in HTTPStatus),
    419,
    499,
    *range(520, 531),
}  # Laravel's, nginx's, Cloudflare's
_TEXTS: Final = [str(status) if status in _KNOWN else f"{status // 100}xx" for status in range(1000)]
_REQUESTS: Final = counts("sluice_requests_total", "Requests answered by the gateway.", ["route", "status"])


def _fold(labels: tuple[str, ...]) -> tuple[str, ...]:
    route, status = labels
    return route, status if status in ("401", "404") else f"{status[0]}xx"


recent(_REQUESTS, "sluice_requests_total", ["route", "answer"], _fold)
chart("requests", _REQUESTS, lambda labels: ("", f"{labels[1][0]}xx"))
_REQUEST_SECONDS: Final = histograms("sluice_request_seconds", "From request to answer.", ["route"], SECONDS)
chart_seconds("request_seconds", _REQUEST_SECONDS)


def request(route: str, status: int, seconds: float) -> None:
    """One answered request. `route` is the pattern from the policies, never the path: few values."""
    _REQUESTS.add(route, _TEXTS[status])
    _REQUEST_SECONDS.observe(seconds, route)


_ADDED_SECONDS: Final = histograms(
    "sluice_added_seconds",
    "From request to asking its upstream or worker: what we add, and what its body takes where that is read first.",
    [],
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10),
)


def added(seconds: float) -> None:
    """To a request that an upstream or worker was asked for."""
    _ADDED_SECONDS.observe(seconds)


_CUT: Final = counts(
    "sluice_clients_cut_total", "Connections of clients that were cut, by the key of `clients` that says when.", ["key"]
)
recent(_CUT, "sluice_clients_cut_total", ["key"])


def cut(key: str) -> None:
    """`first_byte`, `head`, `body` or `send`."""
    _CUT.add(key)


_CONNECTIONS_REFUSED: Final = counts(
    "sluice_connections_refused_total", "Connections that got 503, as the open files of the process are used up.", []
)
recent(_CONNECTIONS_REFUSED, "sluice_connections_refused_total", [])
_WEBSOCKETS_CUT: Final = counts(
    "sluice_websockets_cut_total", "WebSockets that were cut off for what one side sent, by the code.", ["side", "code"]
)
recent(_WEBSOCKETS_CUT, "sluice_websockets_cut_total", ["side", "code"])


def websocket_cut(side: str, code: int) -> None:
    """`client` or `upstream` broke a rule of the protocol or a limit; `code` (RFC 6455 section 7.4) says which."""
    _WEBSOCKETS_CUT.add(side, str(code))


def connection_refused() -> None:
    _CONNECTIONS_REFUSED.add()


_HANDSHAKES: Final = counts(
    "sluice_tls_handshakes_failed_total", "TLS handshakes that failed, by what was wrong.", ["listener", "reason"]
)
recent(_HANDSHAKES, "sluice_tls_handshakes_failed_total", ["listener", "reason"])


def handshake_failed(listener: str, reason: str) -> None:
    """`certificate` (the client refuses ours), `version`, `no_tls` or `other`."""
    _HANDSHAKES.add(listener, reason)
