"""Upstreams that fail, and the workers as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.proxy.failing import ANSWERED, failed, is_failing
from sluice.console.messages.wording import age, some
from sluice.console.status import UpstreamStatus

WORKERS = "workers"
_REASONS = {
    "unreachable": "could not be reached",
    "timeout": "not answered in time",
    "broken_off": "broken off",
    "busy": "found no free connection",
    "circuit_open": "refused by the circuit",
}


def upstreams(seen: Mapping[str, UpstreamStatus]) -> Iterator[str]:
    for name, upstream in seen.items():
        if upstream.circuit != "closed":
            yield _circuit(name, upstream)
        elif is_failing(upstream.outcomes):
            yield f"{_named(name)}: {_share(upstream)}; {_cure(upstream)}"
        yield from _members(name, upstream)


def _members(name: str, upstream: UpstreamStatus) -> Iterator[str]:
    out = [member.url for member in upstream.members if member.out]
    left = len(upstream.members) - len(out)
    others = (
        f"{some(left, 'other member takes', 'other members take')} its requests"
        if left
        else "no other is left, so it is asked all the same"
    )
    for url in out:
        yield (
            f"upstream {name}: its member {url} is left out, as it fails (upstream.member_out in the log says how), "
            f"and {others}; {_start(url)}"
        )


def _circuit(name: str, upstream: UpstreamStatus) -> str:
    if not failed(upstream.outcomes):
        return f"upstream {name}: its circuit is {upstream.circuit}: the next request finds out whether it is back"
    means = "one request a second goes through to find out whether it is back, and others get 503 after a second"
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
    maintenance = "; where it is in maintenance, php artisan up ends that" if upstream.outcomes.get("503") else ""
    return _start(upstream.url) + maintenance


def _start(url: str) -> str:
    place = f"--unix-socket {url.removeprefix('unix:')} http://localhost" if url.startswith("unix:") else url
    return f"start it or cure it: curl -i {place} shows whether it answers"
