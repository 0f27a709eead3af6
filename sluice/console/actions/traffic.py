"""What the processes of this machine have counted, as far as `status` shows it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from gateway.policies import Policies, Upstream
from sluice.console.status import (
    Handled,
    LastMinute,
    LimitDecisions,
    MemberStatus,
    ProcessStatus,
    RequestCounts,
    Share,
    Traffic,
    UpstreamStatus,
)
from sluice.observe import metrics, processes

_REQUESTS = "sluice_requests_total"
_EVENTS = "sluice_events_accepted_total"
_REFUSED = "sluice_events_refused_total"
_DECISIONS = "sluice_limit_decisions_total"
_RECENT_DECISIONS = "sluice_limit_decisions_last_minute"
_RECENT_REFUSED = "sluice_events_refused_last_minute"
_RECENT_ANSWERS = "sluice_requests_last_minute"
_RECENT_UPSTREAM = "sluice_upstream_requests_last_minute"
_RECENT_HANDSHAKES = "sluice_tls_handshakes_failed_last_minute"
_RECENT_HANDLED = "sluice_handled_seconds_last_minute"
_WORKERS = "workers"
_NO_ROUTE = "-"

CircuitState = Literal["closed", "half-open", "open"]


@dataclass(frozen=True, slots=True)
class Counted:
    traffic: Traffic
    last_minute: LastMinute
    upstreams: Mapping[str, UpstreamStatus]
    processes: tuple[ProcessStatus, ...]


def counted(policies: Policies, now: float) -> Counted:
    """Reads the files of every process, so not for the event loop. `now`: unix seconds."""
    families = list(metrics.registry().collect())
    samples = _Samples(families)
    return Counted(
        _traffic(samples, policies), _recent(samples, policies), _upstreams(samples, policies), _all(families, now)
    )


class _Samples:
    def __init__(self, families: list[Metric]) -> None:
        self._by_name: defaultdict[str, list[Sample]] = defaultdict(list)
        for family in families:
            for sample in family.samples:
                self._by_name[sample.name].append(sample)

    def of(self, name: str, **labels: str) -> Iterator[Sample]:
        for sample in self._by_name[name]:
            if all(sample.labels[label] == value for label, value in labels.items()):
                yield sample

    def sums(self, name: str, label: str, **labels: str) -> Counter[str]:
        """By the values of one label; those that are zero are left out."""
        sums: Counter[str] = Counter()
        for sample in self.of(name, **labels):
            if sample.value:
                sums[sample.labels[label]] += int(sample.value)
        return sums

    def value(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self.of(name, **labels))


def _traffic(samples: _Samples, policies: Policies) -> Traffic:
    requests = samples.sums(_REQUESTS, "status")
    return Traffic(
        requests=RequestCounts(sum(requests.values()), _classes(requests)),
        events=dict(samples.sums(_EVENTS, "event").most_common()),
        refused=dict(samples.sums(_REFUSED, "reason").most_common()),
        limits={limit.id: _decisions(samples, _DECISIONS, limit.id) for limit in policies.limits},
    )


def _decisions(samples: _Samples, name: str, limit: str) -> LimitDecisions:
    return LimitDecisions(**samples.sums(name, "decision", limit=limit))


def _classes(statuses: Counter[str]) -> dict[str, int]:
    classes: Counter[str] = Counter()
    for status, requests in statuses.items():
        classes[f"{status[:1]}xx"] += requests
    return dict(sorted(classes.items()))


def _recent(samples: _Samples, policies: Policies) -> LastMinute:
    return LastMinute(
        limits={limit.id: _decisions(samples, _RECENT_DECISIONS, limit.id) for limit in policies.limits},
        undecided=int(samples.value("sluice_limiter_store_away_last_minute")),
        refused={
            endpoint: refused
            for endpoint in policies.relay.endpoints
            if (refused := dict(samples.sums(_RECENT_REFUSED, "reason", endpoint=endpoint)))
        },
        handled={
            endpoint: handled for endpoint in policies.relay.endpoints if (handled := _handled(samples, endpoint))
        },
        unsigned={
            route.path: Share(answers["401"], sum(answers.values()))
            for route in policies.routes
            if route.verify and (answers := samples.sums(_RECENT_ANSWERS, "answer", route=route.path))
        },
        unrouted=Share(
            int(samples.value(_RECENT_ANSWERS, route=_NO_ROUTE, answer="404")), int(samples.value(_RECENT_ANSWERS))
        ),
        unknown_prefixes=int(samples.value("sluice_unknown_prefixes_last_minute")),
        ambiguous_paths=int(samples.value("sluice_ambiguous_paths_last_minute")),
        returned=int(samples.value("sluice_returned_requests_last_minute")),
        handshakes={
            listener: dict(samples.sums(_RECENT_HANDSHAKES, "reason", listener=listener).most_common())
            for listener in samples.sums(_RECENT_HANDSHAKES, "listener")
        },
        twins=int(samples.value("sluice_twin_workers_refused_last_minute")),
        registrations=int(samples.value("sluice_registrations_refused_last_minute")),
        signed_calls=dict(samples.sums("sluice_signed_calls_refused_last_minute", "verify")),
        bodies=int(samples.value("sluice_bodies_refused_last_minute")),
        cut=dict(samples.sums("sluice_clients_cut_last_minute", "key").most_common()),
        shares=dict(samples.sums("sluice_client_shares_refused_last_minute", "upstream")),
        sends={
            what: int(sends)
            for what, sends in samples.sums("sluice_shielded_sends_last_minute", "what").items()
            if sends
        },
        outbox={
            what: int(sends) for what, sends in samples.sums("sluice_outbox_sends_last_minute", "what").items() if sends
        },
        connections_refused=int(samples.value("sluice_connections_refused_last_minute")),
        websockets_cut=dict(samples.sums("sluice_websockets_cut_last_minute", "side", code="1008")),
        websockets_stuck=int(samples.value("sluice_websockets_cut_last_minute", code="1013")),
        held=int(samples.value("sluice_held_requests")),
        reserved=dict(samples.sums("sluice_reserved_refused_last_minute", "reason")),
        log_writes=int(samples.value("sluice_log_writes_failed_last_minute")),
    )


def _handled(samples: _Samples, endpoint: str) -> dict[str, Handled]:
    events = samples.sums("sluice_handled_last_minute", "handled", endpoint=endpoint)
    return {
        how: Handled(number, samples.value(_RECENT_HANDLED, endpoint=endpoint, handled=how) / number)
        for how, number in events.items()
    }


def _upstreams(samples: _Samples, policies: Policies) -> dict[str, UpstreamStatus]:
    found = {name: _upstream(samples, name, upstream) for name, upstream in policies.upstreams.items()}
    if any(samples.of(_RECENT_UPSTREAM, upstream=_WORKERS)):
        found.setdefault(_WORKERS, _upstream(samples, _WORKERS, None))
    return found


def _upstream(samples: _Samples, name: str, upstream: Upstream | None) -> UpstreamStatus:
    opened = max((sample.value for sample in samples.of("sluice_upstream_circuit_open", upstream=name)), default=0.0)
    failing = [sample.value for sample in samples.of("sluice_upstream_failing_seconds", upstream=name)]
    state: CircuitState = "open" if opened == 1.0 else "half-open" if opened else "closed"
    return UpstreamStatus(
        url=upstream.url if upstream else "",
        circuit=state,
        outcomes=dict(samples.sums(_RECENT_UPSTREAM, "outcome", upstream=name).most_common()),
        failing_s=max(failing, default=0.0),
        members=_members(samples, upstream) if upstream else (),
    )


def _members(samples: _Samples, upstream: Upstream) -> tuple[MemberStatus, ...]:
    if not upstream.urls and upstream.health is None:
        return ()
    out = samples.sums("sluice_upstream_member_out", "member", upstream=upstream.name)
    return tuple(MemberStatus(url, out[url] > 0) for url in upstream.members)


def _all(families: list[Metric], now: float) -> tuple[ProcessStatus, ...]:
    pids, restarts = processes.named(families), processes.restarts(families)
    found = []
    for process, pid in sorted(pids.items()):
        usage = processes.usage(pid)
        if usage is None:
            found.append(ProcessStatus(process, restarts.get(process, 0), None))
            continue
        up = max(0.0, now - usage.started)
        found.append(ProcessStatus(process, restarts.get(process, 0), up, usage.files, usage.max_files))
    return tuple(found)
