"""The section `trust`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.policies.lists import AddressList, ListEntry
from sluice.config import parsers, references, units
from sluice.config.fields import Fields, Value, setting
from sluice.config.parsers import each, named, of
from sluice.config.problems import Malformed, quoted

Lists = Mapping[str, AddressList]
NOWHERE = ListEntry(units.network("0.0.0.0/32"))  # a stand-in
IN_FILE = ("trust", "lists")
list_name = references.one_of_section("list", *IN_FILE)


def host(text: str) -> str:
    """A name or address as in the Host header, lower-case, without the port."""
    if not units.is_host(text):
        raise Malformed(f"{quoted(text)} is not a host", "write gate.example.org, without scheme and port")
    return text.lower()


def _networks(value: Value) -> AddressList:
    return AddressList(tuple(map(ListEntry, each(of(units.network))(value))))


@dataclass(frozen=True, slots=True)
class Trust:
    proxies: AddressList = setting(_networks, AddressList())
    """CIDRs whose `X-Forwarded-*` are believed; from anybody else they are dropped."""
    hosts: tuple[str, ...] = setting(each(of(host)), ())
    """The only hosts that are answered, without ports; empty: any single valid Host."""
    lists: Lists = field(default_factory=dict)
    deny: AddressList = field(default_factory=AddressList)
    denied: frozenset[str] = frozenset()
    """Names of the lists in `deny`."""


ABOUT = {
    "lists": "Networks under a name, for `except`, `exempt`, `overrides`, `allow` and `deny`.",
    "deny": "CIDRs or names of lists that get 403.",
}


def trust(value: Value) -> Trust:
    with value.fields(ABOUT) as fields:
        lists: Lists = fields.take("lists", named(_list), {})
        found = fields.read(Trust, lists=lists)
        nothing = AddressList(), frozenset[str]()
        denied, names = fields.take("deny", lambda item: networks_or_lists(item, lists), nothing)
        return replace(found, deny=denied, denied=names)


def networks_or_lists(value: Value, lists: Lists) -> tuple[AddressList, frozenset[str]]:
    """The networks that are written there, or stand in one of these lists whose name is; and all names of lists."""
    names: set[str] = set()
    found: tuple[AddressList, ...] = each(lambda item: _network_or_list(item, lists, names))(value)
    return AddressList.joined(found), frozenset(names)


LISTED = {
    "network": "A CIDR or an address.",
    "networks": "CIDRs or addresses.",
    "until": "A day in UTC or a time, after which it no longer counts.",
    "note": "Such as a ticket; 200 characters at most.",
}


def _list(_name: str, value: Value) -> AddressList:
    """`[10.0.0.0/8]`, or a mapping whose note and end are those of all its networks."""
    if not value.is_mapping:
        return AddressList(each(_entry)(value))
    with value.fields(LISTED) as fields:
        entries: tuple[ListEntry, ...] = fields.need("networks", each(_entry), (), "networks: [10.0.0.0/8]")
        until, note = _until_and_note(fields)
    return AddressList(
        tuple(ListEntry(one.network, _earlier(one.until, until), one.note or note) for one in entries),
    )


def _entry(value: Value) -> ListEntry:
    if not value.is_mapping:
        return ListEntry(units.network(value.text()))
    with value.fields(LISTED) as fields:
        network = fields.need("network", of(units.network), NOWHERE.network, "network: 192.0.2.7")
        return ListEntry(network, *_until_and_note(fields))


def _until_and_note(fields: Fields) -> tuple[float | None, str]:
    return fields.take("until", parsers.until, None), fields.take("note", of(parsers.note), "")


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((until for until in (one, other) if until is not None), default=None)


def _network_or_list(value: Value, lists: Lists, named: set[str]) -> AddressList:
    """One network as in a list, or the name of one, which is noted in `named`."""
    if value.is_mapping:
        return AddressList((_entry(value),))
    text, names = value.text(), references.names_in(value.reading.root, *IN_FILE)
    if text not in names and (text[:1].isdigit() or ":" in text or "/" in text):
        return AddressList((ListEntry(units.network(text)),))
    name = list_name(value)
    named.add(name)
    return lists.get(name, AddressList())
