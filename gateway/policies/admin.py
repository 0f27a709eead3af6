"""The section `admin`: where `/_sluice/` answers, and whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from gateway.policies.lists import AddressList
from gateway.policies.trust import host, networks_or_lists
from sluice.config import Rate, listening, parsers
from sluice.config.fields import Value, setting
from sluice.config.listening import Listener
from sluice.config.parsers import choice, each, of

Metrics = Literal["open", "token"]


def _metrics(value: Value) -> Metrics:
    options: tuple[Metrics, Metrics] = ("open", "token")
    return choice(*options)(value)


@dataclass(frozen=True, slots=True)
class AdminPolicy:
    listen: tuple[Listener, ...] = setting(listening.listeners, ())
    """Where the console, its API and the metrics answer, and nothing else does; empty: wherever the gateway listens."""
    hosts: tuple[str, ...] = setting(each(of(host)), ())
    """Of these requests instead of `trust.hosts`."""
    metrics: Metrics = setting(_metrics, "open")
    """Whether the page of metrics requires `console.token`."""
    refused: Rate = setting(parsers.rate, Rate(10, 60.0))
    """So many wrong tokens may come from one address; then it gets 429."""
    allow: AddressList = field(default_factory=AddressList)
    """The only addresses that get an answer; empty: all but those of `trust.deny`."""
    allowed: frozenset[str] = frozenset()
    """Names of the lists in `allow`."""


ABOUT = {
    "allow": "The only CIDRs, addresses or lists that get an answer; empty: all but those of `trust.deny`.",
}


def admin(value: Value) -> AdminPolicy:
    with value.fields(ABOUT) as fields:
        found = fields.read(AdminPolicy)
        nothing = AddressList(), frozenset[str]()
        literal, names = fields.take("allow", lambda item: networks_or_lists(item, {}), nothing)
        return replace(found, allow=literal, allowed=names)


def joined(found: AdminPolicy, lists: Mapping[str, AddressList]) -> AdminPolicy:
    """With the lists that `allow` names."""
    return replace(found, allow=AddressList.joined([found.allow, *(lists[name] for name in sorted(found.allowed))]))
