"""The section `relay` of `policies.yaml`. Durations are seconds, sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, Protocol
from urllib.parse import urlsplit

from sluice.config import LogPolicy, Rate, Secret, Signature, headers, parsers, references, urls
from sluice.config.fields import Fields, Value, section, setting
from sluice.config.model import Snapshot
from sluice.config.parsers import choice, each, named, of
from sluice.config.problems import Malformed, quoted
from sluice.http import addresses

UNCOUNTED = 2**31 - 1
"""Attempts where only the time counts."""
MAX_BATCH = 200
"""The ids of its events go in one header, and receivers take 8 KiB of it at most."""
OUTBOX = "outbox"
"""The queue of the sends that wait for their workers is called so; no receiver may be."""
EVENTS = each(of(parsers.event_glob))


@dataclass(frozen=True, slots=True)
class Retry:
    """A delivery that keeps failing while others get through is a dead letter after `attempts`, or `within` seconds."""

    attempts: int = setting(parsers.count, 12)
    """Failed attempts, while others get through, after which it is a dead letter."""
    base: float = setting(parsers.duration, 1.0)
    """The first pause; each next one is twice as long, and a random part of it is waited."""
    cap: float = setting(parsers.duration, 600.0)
    """The longest pause."""
    within: float | None = setting(parsers.duration, None, name="for")
    """None: only the attempts count."""


def _retry(value: Value) -> Retry:
    with value.fields() as fields:
        retry = fields.read(Retry)
        _cap_at_least("base", retry.base, retry.cap, fields)
        if retry.within is not None and retry.within < retry.base and fields.sound("for", "base"):
            message = f"for ({retry.within:g}s) is less than base ({retry.base:g}s)"
            fields.wrong("for", Malformed(message, "raise for or lower base"))
        return replace(retry, attempts=UNCOUNTED) if "for" in fields and "attempts" not in fields else retry


def _cap_at_least(name: str, least: float, cap: float, fields: Fields) -> None:
    if cap < least and fields.sound(name, "cap"):
        message = f"cap ({cap:g}s) is less than {name} ({least:g}s)"
        fields.wrong("cap" if "cap" in fields else name, Malformed(message, f"raise cap or lower {name}"))


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    window: float = setting(parsers.duration, 30.0)
    """The time whose attempts count."""
    minimum: int = setting(parsers.count, 10)
    """With fewer attempts in the window it does not open by their ratio."""
    ratio: float = setting(parsers.ratio, 0.5)
    """The share of failures from which on it opens."""
    open: float = setting(parsers.duration, 5.0)
    """How long it is open the first time; each next time twice as long."""
    cap: float = setting(parsers.duration, 300.0)
    """The longest that it is open; what a 429 asks for is believed up to this, and an hour."""
    probes: int = setting(parsers.count, 3)
    """Attempts that have to go well before it closes."""
    slow_start: float = setting(parsers.duration_or_none, 10.0)
    """Seconds after closing in which the concurrency grows to all of it; 0: at once."""


def _check_circuit(circuit: CircuitPolicy, fields: Fields) -> None:
    _cap_at_least("open", circuit.open, circuit.cap, fields)


@dataclass(frozen=True, slots=True)
class Batch:
    """Up to `max` events in one POST, none of which waits longer than `wait` seconds for the others."""

    max: int = setting(parsers.count, 100)
    """Of one POST; 200 at most."""
    wait: float = setting(parsers.duration, 0.2)
    """The longest that an event waits for others."""


def _check_batch(batch: Batch, fields: Fields) -> None:
    if batch.max > MAX_BATCH and fields.sound("max"):
        fields.wrong("max", Malformed(f"{batch.max} is too much", f"write {MAX_BATCH} or less"))


def _headers(value: Value) -> tuple[tuple[str, Secret], ...]:
    found: dict[str, tuple[str, Secret]] = {}
    with value.fields() as fields:
        for key, entry in fields.named():
            name = key.attempt(of(headers.own_name), "")
            if name and name.lower() in found:
                key.note(Malformed(f"{quoted(name)} is there twice", "keep one; case makes no difference"))
            found[name.lower()] = name, entry.attempt(headers.value, Secret(b""))
    return tuple(found.values())


def _forwarded(value: Value) -> tuple[str, ...]:
    return each(of(headers.own_name))(value)


def _allowed(value: Value) -> bool:
    return choice("refuse", "allow")(value) == "allow"


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    url: str = setting(of(urls.http_url), "", missing="url: http://127.0.0.1:8000")
    """The target of an event is appended to it; a batch goes to the address itself."""
    sign: str | None = setting(references.signature, None)
    """Name of the signature that each attempt gets; without it attempts are unsigned."""
    timeout: float = setting(parsers.duration, 10.0)
    """Of one attempt, from connecting to the end of the answer."""
    concurrency: int = setting(parsers.count, 16)
    """Attempts at a time, of all relays together."""
    rate: Rate | None = setting(parsers.rate, None)
    """How many attempts may begin in which time; without it there is no pace. Set it below the receiver's own limit."""
    order: Literal["session", "none"] = setting(choice("session", "none"), "session")
    """`session`: the events of a session one after the other; `none`: each by itself."""
    retry: Retry = setting(_retry, Retry())
    """When a failed delivery is tried again."""
    circuit: CircuitPolicy = setting(section(CircuitPolicy, _check_circuit), CircuitPolicy())
    """When the endpoint is left alone, and how it is found to be back."""
    events: tuple[str, ...] = setting(EVENTS, ())
    """Event types or globs (`session_*`) it is sent; empty: all."""
    headers: tuple[tuple[str, Secret], ...] = setting(_headers, ())
    """Sent with every attempt, in place of what an event brings under the same name."""
    forward: tuple[str, ...] = setting(_forwarded, ())
    """Of the headers that an event brings it gets these, and those about its content: no other, as its sender may have
    proven himself by them to us, or to somebody before us."""
    batch: Batch | None = setting(section(Batch, _check_batch), None)
    """Several events in one POST; without it each has its own."""
    private: bool = setting(_allowed, False)
    """`refuse` unless written: its name may lead to no private address (`sluice.http.addresses`)."""
    required: bool = setting(parsers.boolean, False)
    """While its backlog is full an event is refused, and not only left out here."""
    internal: bool = False
    """It is no receiver: gateways take care of what waits for it (`OUTBOX`)."""


OF_SENDS = Endpoint(OUTBOX, timeout=60.0, concurrency=256, internal=True)
"""Gateways give so many sends to workers at once, of each session one."""


def _endpoint(name: str, value: Value) -> Endpoint:
    if name == OUTBOX:
        value.note(Malformed("is what the queue of sends to workers is called", "call it differently"))
    with value.fields() as fields:
        endpoint = fields.read(Endpoint, name=name)
        _refuse_strange_address(endpoint, fields)
        return endpoint


def _refuse_strange_address(endpoint: Endpoint, fields: Fields) -> None:
    host = urlsplit(endpoint.url).hostname if fields.sound("url") else None
    kind = addresses.kind_of(host) if host and addresses.is_literal(host) else None
    if kind and kind not in addresses.ALLOWED_AS_WRITTEN and not endpoint.private:
        message = f"{host} is no address of a receiver ({kind})"
        fields.wrong("url", Malformed(message, "write another, or private: allow beside it"))


@dataclass(frozen=True, slots=True)
class Lanes:
    urgent: tuple[str, ...] = setting(EVENTS, ())
    """Event types or globs that are delivered before all others."""
    bulk: tuple[str, ...] = setting(EVENTS, ())
    """Event types or globs that are delivered after all others."""


def _keep_latest(value: Value) -> bool:
    return choice("latest")(value) == "latest"


@dataclass(frozen=True, slots=True)
class EventPolicy:
    """What goes stale."""

    ttl: float | None = setting(parsers.duration, None)
    """Not sent once older; None: always sent."""
    keep_latest: bool = setting(_keep_latest, False, name="keep")
    """A newer one replaces a waiting older one."""
    by: str | None = setting(of(parsers.json_pointer), None)
    """JSON pointer whose value, with the session and the event type, tells which older one is replaced."""
    supersede: tuple[str, ...] = setting(each(of(parsers.json_pointer)), ())
    """JSON pointers: once a newer event of this type has the same values, of whatever session, an older one is not sent
    any more. Empty: none is superseded."""
    first: float | None = setting(parsers.duration, None)
    """Seconds for which what is not urgent of its session waits for it at most; None: not at all."""
    after: tuple[str, ...] = setting(each(of(parsers.event_type)), ())
    """Event types that announce it: from them on the others wait for it to come. Those that come up to two seconds
    after it are late, and not sent."""
    announces: float = 0.0
    """Seconds for which they wait for the one that this announces, as that one says; 0: it announces none."""


NEVER_STALE = EventPolicy()
OF_EXISTING_WORKERS: Mapping[str, EventPolicy] = {
    "session_ready": EventPolicy(
        supersede=("/data/workspace_id", "/data/phone_number"),
        first=30.0,
        after=("session_authenticated", "qr_code_generated"),
    ),
    "qr_code_generated": EventPolicy(ttl=60.0, keep_latest=True),
}
"""What the shipped policies say, so that relaying does their Laravel no harm."""


def _check_event(policy: EventPolicy, fields: Fields) -> None:
    if "by" in fields and "keep" not in fields:
        fields.wrong("by", Malformed("does nothing without keep: latest", "add it or remove by"))
    if "after" in fields and "first" not in fields:
        fields.wrong("after", Malformed("does nothing without first", "add first: 30s or remove after"))


def _event(_type: str, value: Value) -> EventPolicy:
    return section(EventPolicy, _check_event)(value)


def _events(value: Value) -> Mapping[str, EventPolicy]:
    return _announced(named(_event, parsers.event_type)(value))


def _announced(events: Mapping[str, EventPolicy]) -> Mapping[str, EventPolicy]:
    """With what others say of a type: that it announces them."""
    found = dict(events)
    for policy in events.values():
        for announcing in policy.after:
            known = found.get(announcing, NEVER_STALE)
            found[announcing] = replace(known, announces=max(known.announces, policy.first or 0.0))
    return found


@dataclass(frozen=True, slots=True)
class Retention:
    delivered: float = setting(parsers.duration_or_none, 86400.0)
    """Seconds in which a delivered event can still be looked at; 0: not at all."""
    dead: float = setting(parsers.duration, 30 * 86400.0)
    """A dead letter is dropped when it is older than this."""
    dead_events: int = setting(parsers.count, 100_000)
    """This and the next of each endpoint: where there are more, the oldest dead letters are dropped."""
    dead_bytes: int = setting(parsers.size, 2**28)
    """Of each endpoint: where dead letters have more, the oldest are dropped."""
    bodies: float = setting(parsers.duration_or_none, 0.0)
    """Seconds in which a delivered event can be sent once more; 0: not at all."""
    bodies_bytes: int = setting(parsers.size, 2**28)
    """Of each endpoint: where these events have more, the oldest can no longer be sent once more."""


@dataclass(frozen=True, slots=True)
class Backlog:
    bytes: int = setting(parsers.size, 2**30)
    """Of what waits for one endpoint."""
    events: int = setting(parsers.count, 1_000_000)
    """So many may wait for one endpoint."""


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    retention: Retention = setting(section(Retention), Retention())
    """How long is kept what has left."""
    endpoints: Mapping[str, Endpoint] = setting(named(_endpoint), {})
    """Receivers of events, by name."""
    lanes: Lanes = setting(section(Lanes), Lanes())
    """What goes first; all that is not named is between the two."""
    events: Mapping[str, EventPolicy] = setting(_events, {})
    """What goes stale, by event type."""
    dedupe: float = setting(parsers.duration, 86400.0)
    """How long an id or key is known, so that a repeat is stored no second time."""
    backlog: Backlog = setting(section(Backlog), Backlog())
    """How much may wait for each endpoint."""
    verify: str | None = setting(references.signature, None)
    """Name of the signature by which a publisher proves itself at `/_sluice/events`."""

    @property
    def receivers(self) -> Mapping[str, Endpoint]:
        """The endpoints to which relays deliver."""
        return {name: endpoint for name, endpoint in self.endpoints.items() if not endpoint.internal}

    @property
    def remember(self) -> float:
        """Seconds after which nothing that was accepted before turns up any more, but for what waits."""
        return max(self.retention.dead, self.retention.bodies) + 86400.0


def check_relay(policy: RelayPolicy, fields: Fields) -> None:
    for kind, event in policy.events.items():
        if event.first is not None and not _is_urgent(kind, policy) and fields.sound("events"):
            message = f"{kind} cannot go first: only what is urgent goes before the rest of its session"
            fields.wrong("events", Malformed(message, f"add {kind} to relay.lanes.urgent, or remove first"))


def _is_urgent(kind: str, policy: RelayPolicy) -> bool:
    return any(fnmatchcase(kind, pattern) for pattern in policy.lanes.urgent)


def shielded(policy: RelayPolicy) -> RelayPolicy:
    """With `OF_EXISTING_WORKERS` for the types of which the policies say nothing. First goes only what is urgent."""
    events = dict(policy.events)
    for kind, event in OF_EXISTING_WORKERS.items():
        known = events.get(kind, NEVER_STALE)
        if replace(known, announces=0.0) == NEVER_STALE:
            sound = event if _is_urgent(kind, policy) else replace(event, first=None, after=())
            events[kind] = replace(sound, announces=known.announces)
    return replace(policy, events=_announced(events))


class RelaySnapshot(Snapshot, Protocol):
    """What the relay needs of the policies as a whole."""

    @property
    def relay(self) -> RelayPolicy: ...
    @property
    def signatures(self) -> Mapping[str, Signature]: ...
    @property
    def log(self) -> LogPolicy: ...
