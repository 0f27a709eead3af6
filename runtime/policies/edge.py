"""The sections `store`, `trust`, `upstreams`, `signatures` and `console`."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.policies import parsers, units, urls
from runtime.policies.fields import Value
from runtime.policies.model import ConsolePolicy, Network, Secret, Signature, StorePolicy, Trust, Upstream
from runtime.policies.parsers import choice, each, named, of
from runtime.policies.problems import Malformed, not_yet, quoted
from runtime.policies.references import References

Networks = tuple[Network, ...]
Lists = Mapping[str, Networks]
STORE = StorePolicy("embedded", "second", 0.25)
TRUST = Trust((), (), {}, ())
LATER_PRESETS = ("body-sha256", "dotted", "waha", "standard", "key")


def store(value: Value) -> StorePolicy:
    with value.fields() as fields:
        return StorePolicy(
            url=fields.take("url", of(urls.store_url), STORE.url),
            promise=fields.take("promise", choice("memory", "second", "always", later=("replica",)), STORE.promise),
            timeout=fields.take("timeout", of(units.duration), STORE.timeout),
        )


def trust(value: Value, known: References) -> Trust:
    with value.fields() as fields:
        lists: Lists = fields.take("lists", named(_networks), {})
        denied: tuple[Networks, ...] = fields.take("deny", each(lambda item: _denied(item, lists, known)), ())
        return Trust(
            proxies=fields.take("proxies", each(of(units.network)), ()),
            hosts=fields.take("hosts", each(of(host)), ()),
            lists=lists,
            deny=tuple(network for networks in denied for network in networks),
        )


def upstream(name: str, value: Value) -> Upstream:
    with value.fields() as fields:
        return Upstream(
            name=name,
            url=fields.need("url", of(urls.http_url), "", "url: http://127.0.0.1:8000"),
            connect=fields.take("connect", of(units.duration), 1.0),
            headers=fields.take("headers", of(units.duration), 30.0),
            idle=fields.take("idle", of(units.duration), 60.0),
        )


def signature(name: str, value: Value) -> Signature:
    with value.fields() as fields:
        return Signature(
            name=name,
            preset=fields.take("preset", choice("blazz", later=LATER_PRESETS), "blazz"),
            secret=fields.need("secret", parsers.secret_value, Secret(b""), "secret: env:NAME or file:PATH"),
            tolerance=fields.take("tolerance", of(units.duration), 300.0),
        )


def console(value: Value) -> ConsolePolicy:
    with value.fields() as fields:
        return ConsolePolicy(fields.take("token", parsers.secret_value, None))


def host(text: str) -> str:
    """A name or address as in the Host header, lower-case, without the port."""
    if not units.is_host(text):
        raise Malformed(f"{quoted(text)} is not a host", "write gate.example.org, without scheme and port")
    return text.lower()


def _networks(_name: str, value: Value) -> Networks:
    if value.is_mapping:
        raise not_yet("a list with note or until", ", or write [10.0.0.0/8]")
    return each(_network)(value)


def _network(value: Value) -> Network:
    if value.is_mapping:
        raise not_yet("a network with note or until", ", or write the network alone")
    return units.network(value.text())


def _denied(value: Value, lists: Lists, known: References) -> tuple[Network, ...]:
    text = value.text()
    if text not in known.lists.names and (text[:1].isdigit() or ":" in text or "/" in text):
        return (units.network(text),)
    return lists.get(known.lists.one(value), ())
