"""Upstreams that fail, and the workers as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.proxy.failing import ANSWERED, failed, is_failing
from sluice.console.messages.wording import age
from sluice.console.status import UpstreamStatus

WORKERS = "workers"
_REASONS = {
    "unreachable": "could not be reached",
    "timeout": "not answered in time",
    "broken_off": "broken off",
    "busy": "found no free connection",
    "circuit_open": "refused at once",
}


def upstreams(seen: Mapping[str, UpstreamStatus]) -> Iterator[str]:
    for name, upstream in seen.items():
        if upstream.circuit != "closed":
            yield _circuit(name, upstream)
        elif is_failing(upstream.outcomes):
            yield f"{_named(name)}: {_share(upstream)}; {_cure(upstream)}"


def _circuit(name: str, upstream: UpstreamStatus) -> str:
    if not failed(upstream.outcomes):
        return f"upstream {name}: its circuit is {upstream.circuit}: the next request finds out whether it is back"
    means = "requests are refused with 503 at once, but for a probe now and then"
    return f"upstream {name}: its circuit is {upstream.circuit}: {means}; {_share(upstream)}; {_cure(upstream)}"


def _named(name: str) -> str:
    return "the workers" if name == WORKERS else f"upstream {name}"


def _share(upstream: UpstreamStatus) -> str:
    bad, total = failed(upstream.outcomes), sum(upstream.outcomes.values())
    since = f", for {age(upstream.failing_s)}" if upstream.failing_s else ""
    kinds = sorted((kind for kind in upstream.outcomes.items() if kind[0] != ANSWERED and kind[1]), key=lambda k: -k[1])
    why = ", ".join(f"{n} {_REASONS.get(outcome, f'answered {outcome}')}" for outcome, n in kinds)
    return f"{bad} of {total} requests of the last minute failed ({why}){since}"


def _cure(upstream: UpstreamStatus) -> str:
    if not upstream.url:
        return "sluice sessions list shows who runs which session"
    return f"start it or cure it: curl -i {upstream.url} shows whether it answers"
