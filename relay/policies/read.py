"""The section `relay`."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from relay.policies.model import (
    Backlog,
    Batch,
    CircuitPolicy,
    Endpoint,
    EventPolicy,
    Lanes,
    RelayPolicy,
    Retry,
)
from sluice.config import Secret, headers, parsers, units, urls
from sluice.config.fields import Fields, Value
from sluice.config.parsers import choice, each, named, of
from sluice.config.problems import Malformed, quoted
from sluice.config.references import Defined
from sluice.http import addresses

RETRY = Retry(attempts=12, base=1.0, cap=600.0)
UNCOUNTED = 2**31 - 1
"""Attempts where only the time counts."""
CIRCUIT = CircuitPolicy(window=30.0, minimum=10, ratio=0.5, open=5.0, cap=300.0, probes=3, slow_start=10.0)
BATCH = Batch(max=100, wait=0.2)
MAX_BATCH = 200
"""The ids of its events go in one header, and receivers take 8 KiB of it at most."""
BACKLOG = Backlog(bytes=2**30, events=1_000_000)
DEAD = 30 * 86400.0
DELIVERED = 86400.0
RELAY = RelayPolicy(
    {}, Lanes((), ()), {}, dedupe=86400.0, keep_dead=DEAD, backlog=BACKLOG, keep_delivered=DELIVERED, verify=None
)
ALLOWED_AS_WRITTEN = frozenset(("loopback", "private", "shared"))
"""Kinds of address that an endpoint's url may name without another word: whoever wrote it meant it."""


def relay(value: Value, signatures: Defined) -> RelayPolicy:
    with value.fields() as fields:
        delivered, dead = fields.take("retention", _retention, (DELIVERED, DEAD))
        return RelayPolicy(
            endpoints=fields.take("endpoints", named(lambda name, item: _endpoint(name, item, signatures)), {}),
            lanes=fields.take("lanes", _lanes, RELAY.lanes),
            events=fields.take("events", _events, {}),
            dedupe=fields.take("dedupe", of(units.duration), RELAY.dedupe),
            keep_dead=dead,
            backlog=fields.take("backlog", _backlog, BACKLOG),
            keep_delivered=delivered,
            verify=fields.take("verify", signatures.one, None),
        )


def _endpoint(name: str, value: Value, signatures: Defined) -> Endpoint:
    with value.fields() as fields:
        endpoint = Endpoint(
            name=name,
            url=fields.need("url", of(urls.http_url), "", "url: http://127.0.0.1:8000"),
            sign=fields.take("sign", signatures.one, None),
            timeout=fields.take("timeout", of(units.duration), 10.0),
            concurrency=fields.take("concurrency", parsers.count, 16),
            rate=fields.take("rate", of(units.rate), None),
            order=fields.take("order", choice("session", "none"), "session"),
            retry=fields.take("retry", _retry, RETRY),
            circuit=fields.take("circuit", _circuit, CIRCUIT),
            events=fields.take("events", each(of(parsers.event_glob)), ()),
            headers=fields.take("headers", _headers, ()),
            batch=fields.take("batch", _batch, None),
            private=fields.take("private", choice("refuse", "allow"), "refuse") == "allow",
        )
        _refuse_strange_address(endpoint, fields)
        return endpoint


def _refuse_strange_address(endpoint: Endpoint, fields: Fields) -> None:
    host = urlsplit(endpoint.url).hostname if fields.sound("url") else None
    kind = addresses.kind_of(host) if host and addresses.is_literal(host) else None
    if kind and kind not in ALLOWED_AS_WRITTEN and not endpoint.private:
        message = f"{host} is no address of a receiver ({kind})"
        fields.wrong("url", Malformed(message, "write another, or private: allow beside it"))


def _headers(value: Value) -> tuple[tuple[str, Secret], ...]:
    found: dict[str, tuple[str, Secret]] = {}
    with value.fields() as fields:
        for key, entry in fields.named():
            name = key.attempt(of(headers.own_name), "")
            if name and name.lower() in found:
                key.note(Malformed(f"{quoted(name)} is there twice", "keep one; case makes no difference"))
            found[name.lower()] = name, entry.attempt(headers.value, Secret(b""))
    return tuple(found.values())


def _batch(value: Value) -> Batch:
    with value.fields() as fields:
        batch = Batch(
            max=fields.take("max", parsers.count, BATCH.max),
            wait=fields.take("wait", of(units.duration), BATCH.wait),
        )
        if batch.max > MAX_BATCH and fields.sound("max"):
            fields.wrong("max", Malformed(f"{batch.max} is too much", f"write {MAX_BATCH} or less"))
        return batch


def _retry(value: Value) -> Retry:
    with value.fields() as fields:
        retry = Retry(
            attempts=fields.take("attempts", parsers.count, RETRY.attempts),
            base=fields.take("base", of(units.duration), RETRY.base),
            cap=fields.take("cap", of(units.duration), RETRY.cap),
            within=fields.take("for", of(units.duration), None),
        )
        _cap_at_least("base", retry.base, retry.cap, fields)
        if retry.within is not None and retry.within < retry.base and fields.sound("for", "base"):
            message = f"for ({retry.within:g}s) is less than base ({retry.base:g}s)"
            fields.wrong("for", Malformed(message, "raise for or lower base"))
        return replace(retry, attempts=UNCOUNTED) if "for" in fields and "attempts" not in fields else retry


def _circuit(value: Value) -> CircuitPolicy:
    with value.fields() as fields:
        circuit = CircuitPolicy(
            window=fields.take("window", of(units.duration), CIRCUIT.window),
            minimum=fields.take("minimum", parsers.count, CIRCUIT.minimum),
            ratio=fields.take("ratio", parsers.ratio, CIRCUIT.ratio),
            open=fields.take("open", of(units.duration), CIRCUIT.open),
            cap=fields.take("cap", of(units.duration), CIRCUIT.cap),
            probes=fields.take("probes", parsers.count, CIRCUIT.probes),
            slow_start=fields.take("slow_start", _duration_or_none, CIRCUIT.slow_start),
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


def _retention(value: Value) -> tuple[float, float]:
    with value.fields() as fields:
        delivered = fields.take("delivered", _duration_or_none, DELIVERED)
        return delivered, fields.take("dead", of(units.duration), DEAD)


def _duration_or_none(value: Value) -> float:
    text = value.text()
    if text == "none":
        return 0.0
    try:
        return units.duration(text)
    except Malformed as malformed:
        raise Malformed(malformed.message, f"{malformed.hint}, or none") from None


def _backlog(value: Value) -> Backlog:
    with value.fields() as fields:
        return Backlog(
            bytes=fields.take("bytes", of(units.size), BACKLOG.bytes),
            events=fields.take("events", parsers.count, BACKLOG.events),
        )
