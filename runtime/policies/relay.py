"""The section `relay`."""

from __future__ import annotations

from runtime.policies import parsers, units, urls
from runtime.policies.fields import Fields, Value
from runtime.policies.model import Backlog, CircuitPolicy, Endpoint, EventPolicy, Lanes, RelayPolicy, Retry
from runtime.policies.parsers import choice, each, named, of
from runtime.policies.problems import Malformed
from runtime.policies.references import References

RETRY = Retry(attempts=12, base=1.0, cap=600.0)
CIRCUIT = CircuitPolicy(window=30.0, minimum=10, ratio=0.5, open=5.0, cap=300.0, probes=3)
BACKLOG = Backlog(bytes=2**30, events=1_000_000)
DEAD = 30 * 86400.0
RELAY = RelayPolicy({}, Lanes((), ()), {}, dedupe=86400.0, keep_dead=DEAD, backlog=BACKLOG)


def relay(value: Value, known: References) -> RelayPolicy:
    with value.fields() as fields:
        return RelayPolicy(
            endpoints=fields.take("endpoints", named(lambda name, item: _endpoint(name, item, known)), {}),
            lanes=fields.take("lanes", _lanes, RELAY.lanes),
            events=fields.take("events", _events, {}),
            dedupe=fields.take("dedupe", of(units.duration), RELAY.dedupe),
            keep_dead=fields.take("retention", _keep_dead, DEAD),
            backlog=fields.take("backlog", _backlog, BACKLOG),
        )


def _endpoint(name: str, value: Value, known: References) -> Endpoint:
    with value.fields() as fields:
        fields.later("events", "headers", "batch")
        return Endpoint(
            name=name,
            url=fields.need("url", of(urls.http_url), "", "url: http://127.0.0.1:8000"),
            sign=fields.take("sign", known.signatures.one, None),
            timeout=fields.take("timeout", of(units.duration), 10.0),
            concurrency=fields.take("concurrency", parsers.count, 16),
            rate=fields.take("rate", of(units.rate), None),
            order=fields.take("order", choice("session", "none"), "session"),
            retry=fields.take("retry", _retry, RETRY),
            circuit=fields.take("circuit", _circuit, CIRCUIT),
        )


def _retry(value: Value) -> Retry:
    with value.fields() as fields:
        retry = Retry(
            attempts=fields.take("attempts", parsers.count, RETRY.attempts),
            base=fields.take("base", of(units.duration), RETRY.base),
            cap=fields.take("cap", of(units.duration), RETRY.cap),
        )
        _cap_at_least("base", retry.base, retry.cap, fields)
        return retry


def _circuit(value: Value) -> CircuitPolicy:
    with value.fields() as fields:
        circuit = CircuitPolicy(
            window=fields.take("window", of(units.duration), CIRCUIT.window),
            minimum=fields.take("minimum", parsers.count, CIRCUIT.minimum),
            ratio=fields.take("ratio", parsers.ratio, CIRCUIT.ratio),
            open=fields.take("open", of(units.duration), CIRCUIT.open),
            cap=fields.take("cap", of(units.duration), CIRCUIT.cap),
            probes=fields.take("probes", parsers.count, CIRCUIT.probes),
        )
        _cap_at_least("open", circuit.open, circuit.cap, fields)
        return circuit


def _cap_at_least(name: str, least: float, cap: float, fields: Fields) -> None:
    if cap < least and fields.sound(name, "cap"):
        message = f"cap ({cap:g}s) is less than {name} ({least:g}s)"
        fields.wrong("cap" if "cap" in fields else name, Malformed(message, f"raise cap or lower {name}"))


def _lanes(value: Value) -> Lanes:
    with value.fields() as fields:
        globs = each(of(parsers.event_glob))
        return Lanes(fields.take("urgent", globs, ()), fields.take("bulk", globs, ()))


def _events(value: Value) -> dict[str, EventPolicy]:
    policies: dict[str, EventPolicy] = {}
    with value.fields() as fields:
        for key, entry in fields.named():
            event_type = key.attempt(of(parsers.event_type), "")
            policies[event_type] = entry.attempt(_event, EventPolicy(None, False, None))
    return policies


def _event(value: Value) -> EventPolicy:
    with value.fields() as fields:
        policy = EventPolicy(
            ttl=fields.take("ttl", of(units.duration), None),
            keep_latest=fields.take("keep", choice("latest"), None) is not None,
            by=fields.take("by", of(parsers.json_pointer), None),
        )
        if "by" in fields and "keep" not in fields:
            fields.wrong("by", Malformed("does nothing without keep: latest", "add it or remove by"))
        return policy


def _keep_dead(value: Value) -> float:
    with value.fields() as fields:
        fields.later("delivered")
        return fields.take("dead", of(units.duration), DEAD)


def _backlog(value: Value) -> Backlog:
    with value.fields() as fields:
        return Backlog(
            bytes=fields.take("bytes", of(units.size), BACKLOG.bytes),
            events=fields.take("events", parsers.count, BACKLOG.events),
        )
