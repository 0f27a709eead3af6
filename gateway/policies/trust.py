"""The section `trust`."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.policies.lists import AddressList, ListEntry
from gateway.policies.model import Trust
from gateway.policies.references import References
from sluice.config import parsers, units
from sluice.config.fields import Fields, Value
from sluice.config.parsers import each, named, of
from sluice.config.problems import Malformed, quoted

Lists = Mapping[str, AddressList]
NOWHERE = ListEntry(units.network("0.0.0.0/32"))  # a stand-in
TRUST = Trust((), (), {}, AddressList())


def trust(value: Value, known: References) -> Trust:
    with value.fields() as fields:
        lists: Lists = fields.take("lists", named(_list), {})
        return Trust(
            proxies=fields.take("proxies", each(of(units.network)), ()),
            hosts=fields.take("hosts", each(of(host)), ()),
            lists=lists,
            deny=AddressList.joined(fields.take("deny", each(lambda item: _denied(item, lists, known)), ())),
        )


def host(text: str) -> str:
    """A name or address as in the Host header, lower-case, without the port."""
    if not units.is_host(text):
        raise Malformed(f"{quoted(text)} is not a host", "write gate.example.org, without scheme and port")
    return text.lower()


def _list(_name: str, value: Value) -> AddressList:
    """`[10.0.0.0/8]`, or a mapping whose note and end are those of all its networks."""
    if not value.is_mapping:
        return AddressList(each(_entry)(value))
    with value.fields() as fields:
        entries: tuple[ListEntry, ...] = fields.need("networks", each(_entry), (), "networks: [10.0.0.0/8]")
        until, note = _until_and_note(fields)
    return AddressList(
        tuple(ListEntry(one.network, _earlier(one.until, until), one.note or note) for one in entries),
    )


def _entry(value: Value) -> ListEntry:
    if not value.is_mapping:
        return ListEntry(units.network(value.text()))
    with value.fields() as fields:
        network = fields.need("network", of(units.network), NOWHERE.network, "network: 192.0.2.7")
        return ListEntry(network, *_until_and_note(fields))


def _until_and_note(fields: Fields) -> tuple[float | None, str]:
    return fields.take("until", of(units.until), None), fields.take("note", of(parsers.note), "")


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((until for until in (one, other) if until is not None), default=None)


def _denied(value: Value, lists: Lists, known: References) -> AddressList:
    """One network as in a list, or the name of one."""
    if value.is_mapping:
        return AddressList((_entry(value),))
    text = value.text()
    if text not in known.lists.names and (text[:1].isdigit() or ":" in text or "/" in text):
        return AddressList((ListEntry(units.network(text)),))
    return lists.get(known.lists.one(value), AddressList())
