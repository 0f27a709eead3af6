"""The buckets of a subject, for a person who knows it by name: found from the policies, without a look at other keys.

No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from gateway.client_ip import client_of
from gateway.limits.applicable import Bucket, Limits, Subject
from gateway.limits.overrides import Overrides
from gateway.policies import AddressList, Limit, Override, Policies, applies_to_event
from sluice.http.fields import fields_of

_NOBODY = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Names:
    """A subject as far as it is named."""

    session: str | None = None
    workspace: str | None = None
    address: IPv4Address | IPv6Address | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a limit is to a subject."""

    limit: Limit
    bucket: Bucket | None
    """As what is relayed meets it, at the limit's own cost."""
    why_none: str = ""
    override: Override | None = None
    """Whose numbers the bucket has."""


def bucket_of(limit: Limit, names: Names, policies: Policies, now: float) -> Found:
    """`now`: unix seconds. Of a subject without an address nothing that a trusted list says counts."""
    address, lists = names.address, policies.trust.lists
    missing = _missing(limit, names)
    if missing:
        return Found(limit, None, f"counts per {' and '.join(limit.per)}: say which {' and '.join(missing)}")
    if names.event is not None and not applies_to_event(limit.events, names.event):
        return Found(limit, None, f"is not about {names.event}")
    exempt = [name for name in limit.exempt if address is not None and lists[name].holds(address, now)]
    if exempt:
        return Found(limit, None, f"leaves {exempt[0]} alone (except)")
    overrides = tuple(it for it in limit.overrides if it.by != "list" or address is not None)
    client = client_of(str(address or _NOBODY), fields_of(()), AddressList())
    override = Overrides(overrides, lists).of(names.session, names.workspace, client, now)
    if override is not None and override.rate is None:
        return Found(limit, None, f"has no numbers for {override.by} {', '.join(override.names)} (unlimited)")
    alone = replace(limit, events=(), exempt=(), overrides=overrides)
    subject = Subject(client, names.event, names.session, relayed=True, workspace=names.workspace)
    (bucket,) = Limits([alone], lists, spread="+cluster://" in policies.store.url).buckets(subject, None, now)
    return Found(limit, bucket, override=override)


def _missing(limit: Limit, names: Names) -> list[str]:
    given = {
        "session": names.session,
        "workspace": names.workspace,
        "ip": names.address,
        "event": names.event,
    }
    called = {"ip": "address", "event": "event type"}
    return [called.get(per, per) for per in limit.per if given[per] is None]
