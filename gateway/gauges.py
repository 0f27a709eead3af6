"""The page of metrics: what the processes have counted, and what a look at the store and the machine says now.

What is looked at is made anew for each page, so nothing of an endpoint, a state or a process that is gone stays on it.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway import cleaning_gauges, vault_gauges
from gateway.alerts.board import Known
from gateway.look import Look
from gateway.outbox import gauges as outbox_gauges
from relay.policies import RelayPolicy
from relay.queue.queue import Counts
from sessions.existing import WatchedWorker
from sessions.lifecycle.policies import KINDS
from sessions.orphans import has_room
from sluice import __version__, commit
from sluice.http.server.certificates import Certificate
from sluice.observe import metrics, processes
from sluice.observe.metrics import CIRCUIT_VALUES
from sluice.observe.processes import Usage

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sluice_build_info": ("1; what runs here.", ("version", "commit", "python", "store")),
    "sluice_queue_events": ("Events in the queue of an endpoint.", ("endpoint", "place")),
    "sluice_stranded_events": ("Events and dead letters for endpoints that the policies do not name.", ()),
    "sluice_queue_bytes": ("Bytes of what waits for an endpoint.", ("endpoint",)),
    "sluice_queue_oldest_seconds": ("For how long the oldest event that is due has been waiting.", ("endpoint",)),
    "sluice_backlog_capacity_events": ("The most events that may wait for an endpoint.", ("endpoint",)),
    "sluice_backlog_capacity_bytes": ("The most bytes that may wait for an endpoint.", ("endpoint",)),
    "sluice_backlog_used_ratio": ("How full the backlog of an endpoint is: 1 is full.", ("endpoint",)),
    "sluice_circuit_open": ("0 closed, 0.5 half-open, 1 open.", ("endpoint",)),
    "sluice_circuit_held": ("1 while a person holds the circuit of an endpoint.", ("endpoint",)),
    "sluice_sessions": ("Sessions by state.", ("state",)),
    "sluice_sessions_unowned": ("Sessions that nobody runs.", ()),
    "sluice_sessions_reserved": ("Places that are held for creates.", ()),
    "sluice_sessions_unhealthy": ("Sessions that are not well though somebody runs them, by kind of fault.", ("kind",)),
    "sluice_sessions_waiting": ("Sessions that nobody runs, and whose login lies on an existing worker.", ()),
    "sluice_session_reports_refused": ("States that were reported and cannot follow the last one.", ()),
    "sluice_workers_full": ("Live workers that take no more sessions, as they drain or are full.", ()),
    "sluice_workers": ("Workers that are live, or lost for less than an hour.", ("state",)),
    "sluice_workers_draining": ("Live workers that are to drain, as fewer are wanted.", ()),
    "sluice_workers_wanted": ("Workers of yours that are wanted for the sessions that there are.", ()),
    "sluice_workers_wanted_sessions": ("Sessions that workers of yours are to run; it is made of these.", ("of",)),
    "sluice_workers_wanted_capacity": ("Sessions that one worker of yours runs.", ()),
    "sluice_worker_dropped_events": (
        "Events of its sessions that a worker of yours could not pass on within the last hour.",
        ("worker",),
    ),
    "sluice_existing_worker_up": ("Whether a worker of sessions.workers answers.", ("worker",)),
    "sluice_existing_worker_refuses": ("1 while it refuses us, for its key or for want of one.", ("worker",)),
    "sluice_existing_worker_several": ("1 while several processes answer at its url.", ("worker",)),
    "sluice_existing_worker_odd_items": ("Items of its list that name no session.", ("worker",)),
    "sluice_existing_worker_missing": ("Sessions that it has and does not list.", ("worker",)),
    "sluice_existing_worker_disputed": ("Its sessions that another worker has, too.", ("worker",)),
    "sluice_certificate_end_timestamp_seconds": ("When the certificate of a listener ends, unix time.", ("on",)),
    "sluice_certificate_refused": ("1 while a listener keeps its certificate, as newer files are broken.", ("on",)),
    "sluice_alerts_firing": ("What is wrong by a rule for alerts, for long enough.", ("kind",)),
    "sluice_alert_receiver_failing": ("1 while a receiver of alerts does not take what it is sent.", ("receiver",)),
    "sluice_relays": ("Relay processes that are alive.", ()),
    "sluice_store_up": ("Whether the store answers.", ()),
    "sluice_store_memory_bytes": ("Memory that the store uses.", ()),
    "sluice_store_max_memory_bytes": ("The store's maxmemory; 0: as much as the machine has.", ()),
    "sluice_store_file_bytes": ("The store's append-only file.", ()),
    "sluice_disk_free_bytes": ("Free on the file system of the data folder.", ()),
    "sluice_disk_size_bytes": ("Size of the file system of the data folder.", ()),
    **cleaning_gauges.GAUGES,
    **outbox_gauges.GAUGES,
    **vault_gauges.GAUGES,
}
"""What is made here: description and labels, by name."""

_MAX_STORE_NAME = 40
Values = list[tuple[tuple[str, ...], float]]


def page(
    look: Look, relay: RelayPolicy, watched: Sequence[WatchedWorker], certificates: Sequence[Certificate] = ()
) -> bytes:
    """The text format of Prometheus."""
    counted = [family for family in metrics.registry().collect() if not family.name.startswith("process_")]
    gauges = _gauges(look, relay, watched, certificates)
    ages = vault_gauges.ages(look.vault)
    return generate_latest(_Page([*counted, *gauges, ages, *_usages(counted)]))


class _Page:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauges(
    look: Look, relay: RelayPolicy, watched: Sequence[WatchedWorker], certificates: Sequence[Certificate]
) -> Iterator[Metric]:
    values: dict[str, Values] = {
        **_of_endpoints(look, relay),
        **_of_sessions(look),
        **_of_scaling(look),
        **_of_store(look),
        **_of_existing(watched),
        **cleaning_gauges.values(look.sessions, look.cleanings),
        **outbox_gauges.values(look.sends),
        **_of_alerts(look.alerts),
        **vault_gauges.values(look.vault, look.troubles),
        "sluice_certificate_end_timestamp_seconds": [((one.listener,), one.ends) for one in certificates],
        "sluice_certificate_refused": [((one.listener,), float(one.problem is not None)) for one in certificates],
    }
    if look.disk is not None:
        values["sluice_disk_free_bytes"] = [((), look.disk.free)]
        values["sluice_disk_size_bytes"] = [((), look.disk.total)]
    for name, (description, labels) in GAUGES.items():
        family = GaugeMetricFamily(name, description, labels=labels)
        for given, value in values.get(name, ()):
            family.add_metric(given, value)
        yield family


def _of_endpoints(look: Look, relay: RelayPolicy) -> dict[str, Values]:
    values: dict[str, Values] = {name: [] for name in GAUGES if name.startswith(("sluice_queue", "sluice_backlog"))}
    for endpoint, counts in [*look.counts.items(), *look.stranded.items()]:
        if counts is not None:
            _of_queue(values, endpoint, counts)
    left = sum(counts.waiting + counts.leased + counts.dead for counts in look.stranded.values())
    values["sluice_stranded_events"] = [((), left)]
    backlog = relay.backlog
    for endpoint, counts in look.counts.items():
        values["sluice_backlog_capacity_events"].append(((endpoint,), backlog.events))
        values["sluice_backlog_capacity_bytes"].append(((endpoint,), backlog.bytes))
        if counts is not None:
            used = max(counts.waiting / backlog.events, counts.bytes / backlog.bytes)
            values["sluice_backlog_used_ratio"].append(((endpoint,), used))
    circuits = {name: circuit for name, circuit in look.circuits.items() if circuit is not None}
    values["sluice_circuit_open"] = [((name,), CIRCUIT_VALUES[circuit.state]) for name, circuit in circuits.items()]
    values["sluice_circuit_held"] = [((name,), float(circuit.held)) for name, circuit in circuits.items()]
    return values


def _of_queue(values: dict[str, Values], endpoint: str, counts: Counts) -> None:
    for place, events in (("waiting", counts.waiting), ("leased", counts.leased), ("dead", counts.dead)):
        values["sluice_queue_events"].append(((endpoint, place), events))
    values["sluice_queue_bytes"].append(((endpoint,), counts.bytes))
    values["sluice_queue_oldest_seconds"].append(((endpoint,), counts.oldest_due))


def _of_sessions(look: Look) -> dict[str, Values]:
    seen = look.sessions
    if seen is None:
        return {}
    lost = sum(worker.beat_left <= 0 for worker in seen.workers)
    return {
        "sluice_sessions": [((state,), sessions) for state, sessions in seen.states.items()],
        "sluice_sessions_unowned": [((), seen.unowned)],
        "sluice_sessions_reserved": [((), sum(worker.reserved for worker in seen.workers))],
        "sluice_sessions_waiting": [((), sum(worker.waiting for worker in seen.workers))],
        "sluice_sessions_unhealthy": [((kind,), seen.faults.get(kind, 0)) for kind in KINDS],
        "sluice_session_reports_refused": [((), seen.impossible)],
        "sluice_workers_full": [((), sum(one.beat_left > 0 and not has_room(one) for one in seen.workers))],
        "sluice_workers_draining": [((), sum(one.beat_left > 0 and one.drains is not None for one in seen.workers))],
        "sluice_worker_dropped_events": [((one.worker,), one.dropped) for one in seen.workers if not one.existing],
        "sluice_workers": [(("live",), len(seen.workers) - lost), (("lost",), lost)],
    }


def _of_scaling(look: Look) -> dict[str, Values]:
    if look.scaling is None or look.scaling.decision is None:
        return {}
    wanted, demand = look.scaling.decision.wanted, look.scaling.decision.demand
    owned = demand.sessions - demand.unowned - demand.unplaced
    parts = {"owned": owned, "unowned": demand.unowned, "unplaced": demand.unplaced}
    return {
        "sluice_workers_wanted": [((), wanted.workers)],
        "sluice_workers_wanted_sessions": [((name,), number) for name, number in parts.items()],
        "sluice_workers_wanted_capacity": [((), demand.per_worker)],
    }


def _of_existing(watched: Sequence[WatchedWorker]) -> dict[str, Values]:
    values: dict[str, Callable[[WatchedWorker], float]] = {
        "sluice_existing_worker_up": lambda one: one.why is None,
        "sluice_existing_worker_refuses": lambda one: one.refused,
        "sluice_existing_worker_several": lambda one: one.several,
        "sluice_existing_worker_odd_items": lambda one: one.odd,
        "sluice_existing_worker_missing": lambda one: one.missing,
        "sluice_existing_worker_disputed": lambda one: len(one.disputed),
    }
    return {name: [((one.worker,), float(value(one))) for one in watched] for name, value in values.items()}


def _of_alerts(known: Known | None) -> dict[str, Values]:
    if known is None:
        return {}
    firing = Counter(alert.kind for alert in known.memory.alerts.values() if alert.fires)
    receivers = known.memory.receivers.items()
    return {
        "sluice_alerts_firing": [((kind,), number) for kind, number in sorted(firing.items())],
        "sluice_alert_receiver_failing": [((name,), float(it.failing_since is not None)) for name, it in receivers],
    }


def _of_store(look: Look) -> dict[str, Values]:
    store = look.store
    version = store.version[:_MAX_STORE_NAME] if store else "unknown"
    values: dict[str, Values] = {
        "sluice_build_info": [((__version__, commit(), platform.python_version(), version), 1)],
        "sluice_store_up": [((), float(look.why_away is None))],
        "sluice_relays": [] if look.relays is None else [((), look.relays)],
    }
    if store is not None:
        values["sluice_store_memory_bytes"] = [((), store.memory)]
        values["sluice_store_max_memory_bytes"] = [((), store.max_memory)]
        values["sluice_store_file_bytes"] = [((), store.file)]
    return values


def _usages(counted: list[Metric]) -> Iterator[Metric]:
    pids = processes.named(counted) or {"gateway": os.getpid()}
    known: dict[str, Usage] = {}
    for process, pid in pids.items():
        usage = processes.usage(pid)
        if usage is not None:
            known[process] = usage
    for name, (description, value) in processes.GAUGES.items():
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(name, description, labels=["process"])
        for process, usage in known.items():
            family.add_metric([process], value(usage))
        yield family
