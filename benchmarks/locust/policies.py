"""The limits of a `policies.yaml`, read for the oracle alone.

It reads what it needs to know what each limit should do, and nothing else of the file. What it does not understand in
a limit it says in `Limit.unclear`, and that limit is not judged. `sluice check` says whether the file is valid.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Cost = float | str
"""Tokens, or a JSON pointer to a number of them or to the list whose items cost one each."""

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "month": 2_592_000, "year": 31_104_000}
_RATE = re.compile(r"\s*([0-9]+)\s*(?:/|\s+per\s+)\s*([0-9]+)?\s*(second|minute|hour|day|month|year)s?\s*", re.I)
_PREFIX = re.compile(r"ip/([0-9]{1,2})(?:/([0-9]{1,3}))?")
_UNDERSTOOD = {"id", "event", "per", "rate", "burst", "over", "except", "mode", "cost", "when_store_away", "overrides"}
_OVERRIDE = {"session", "workspace", "list", "rate", "burst", "unlimited", "until"}
_ENDS_SOON = 86_400.0


class NotReadable(Exception):
    """The file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Numbers:
    rate: float
    """Tokens per second."""
    burst: float


@dataclass(frozen=True, slots=True)
class Override:
    """Other numbers for some; none: unlimited."""

    sessions: tuple[str, ...]
    workspaces: tuple[str, ...]
    """Names, `*` for any rest of one."""
    networks: tuple[Network, ...]
    numbers: Numbers | None

    def meets(self, address: Address, session: str | None, workspace: str | None) -> bool:
        return (
            any(fnmatchcase(session or "", glob) for glob in self.sessions)
            or any(fnmatchcase(workspace or "", glob) for glob in self.workspaces)
            or any(address in network for network in self.networks)
        )


@dataclass(frozen=True, slots=True)
class Limit:
    id: str
    events: tuple[str, ...] = ()
    """Globs; none: all events, and requests that name none."""
    per: tuple[str, ...] = ()
    """Of session, ip and event."""
    numbers: Numbers = Numbers(1.0, 1.0)
    over: str = "reject"
    exempt: tuple[Network, ...] = ()
    observed: bool = False
    """Counted, never enforced."""
    partly: bool = False
    """Enforced for some subjects, and from outside nobody knows for which."""
    cost: Cost = 1.0
    prefixes: tuple[int, int] = (32, 64)
    """Bits of an IPv4 and of an IPv6 address that count: one customer has at least a /64."""
    overrides: tuple[Override, ...] = ()
    unclear: str = ""
    """Why the oracle cannot judge it; empty: it can."""

    @property
    def judged(self) -> bool:
        return not self.unclear

    def numbers_for(self, address: Address, session: str | None, workspace: str | None) -> set[Numbers | None]:
        """Those that may count for this subject, None for no limit. Several: which one the server takes is its own."""
        met = [one for one in self.overrides if one.meets(address, session, workspace)]
        by_workspace = any(one.workspaces for one in met)  # where that is read from is the routes' to say
        return {one.numbers for one in met} | ({self.numbers} if by_workspace or not met else set())


@dataclass(frozen=True, slots=True)
class Policies:
    limits: tuple[Limit, ...]
    proxies: tuple[Network, ...]
    """Peers whose X-Forwarded-For is believed."""


def read(file: Path) -> Policies:
    """Raises NotReadable."""
    document = _document(file)
    trust = _mapping(document.get("trust"))
    lists = {str(name): entry for name, entry in _mapping(trust.get("lists")).items()}
    items = document.get("limits") or ()
    if not isinstance(items, Sequence) or not all(isinstance(item, Mapping) and item.get("id") for item in items):
        raise NotReadable(f"{file}: `limits` is not a list of limits with an id each; what does `sluice check` say?")
    try:
        proxies = _networks(trust.get("proxies") or ())
    except ValueError as error:
        raise NotReadable(f"{file}: trust.proxies: {error}") from None
    return Policies(tuple(_limit(item, lists) for item in items), proxies)


def _document(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text()
        found = json.loads(text) if file.suffix == ".json" else _yaml(text)
    except OSError as error:
        raise NotReadable(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise NotReadable(f"{file}: {error}") from None
    if not isinstance(found, Mapping):
        raise NotReadable(f"{file}: not a policies file")
    return found


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise NotReadable("reading YAML needs PyYAML: pip install pyyaml (a .json file needs nothing)") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


# --- one limit


def _limit(item: Mapping[str, Any], lists: Mapping[str, Any]) -> Limit:
    try:
        _refuse_unknown(item, _UNDERSTOOD)
        numbers = _numbers(item, {})
        per, prefixes = _per(item.get("per"))
        return Limit(
            id=str(item["id"]),
            events=_strings(item.get("event")),
            per=per,
            numbers=numbers,
            over=str(item.get("over", "reject")),
            exempt=tuple(network for name in _strings(item.get("except")) for network in _list(name, lists)),
            observed=item.get("mode") == "observe",
            partly=_partly(item.get("mode")),
            cost=_cost(item.get("cost", 1)),
            prefixes=prefixes,
            overrides=tuple(_override(one, item, lists) for one in item.get("overrides") or () if _counts(one)),
        )
    except (ValueError, TypeError, AttributeError) as error:
        return Limit(id=str(item["id"]), unclear=str(error))


def _refuse_unknown(item: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(str(key) for key in item.keys() - known)
    if unknown:
        raise ValueError(f"the oracle does not know {', '.join(unknown)}")


def _numbers(item: Mapping[str, Any], usual: Mapping[str, Any]) -> Numbers:
    """Of a limit, or of an override where `usual` is its limit. Without a burst it is the amount of the rate."""
    text = item.get("rate", usual.get("rate"))
    match = _RATE.fullmatch(str(text))
    if not match or not int(match[1]):
        raise ValueError(f"the rate {text!r} is in no notation the oracle knows")
    amount, seconds = int(match[1]), int(match[2] or 1) * _SECONDS[match[3].lower()]
    return Numbers(amount / seconds, float(item.get("burst", usual.get("burst", amount))))


def _per(value: object) -> tuple[tuple[str, ...], tuple[int, int]]:
    """The subjects, and the bits of an address that count."""
    found, bits = [], (32, 64)
    for subject in _strings(value):
        prefix = _PREFIX.fullmatch(subject)
        if prefix:
            bits = int(prefix[1]), int(prefix[2] or 64)
        elif subject not in ("session", "ip", "event"):
            raise ValueError(f"the oracle does not know whom it counts per {subject}")
        found.append("ip" if prefix else subject)
    return tuple(found), bits


def _partly(mode: object) -> bool:
    if mode in (None, "observe", "enforce"):
        return False
    if isinstance(mode, Mapping) and set(mode) == {"enforce"}:
        return str(mode["enforce"]) != "100%"
    raise ValueError(f"the oracle does not know mode: {mode}")


def _cost(value: object) -> Cost:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, Mapping) and set(value) == {"json"}:
        return str(value["json"])
    raise ValueError(f"the oracle does not know cost: {value}")


def _override(item: Mapping[str, Any], limit: Mapping[str, Any], lists: Mapping[str, Any]) -> Override:
    _refuse_unknown(item, _OVERRIDE)
    return Override(
        sessions=_strings(item.get("session")),
        workspaces=_strings(item.get("workspace")),
        networks=_list(item["list"], lists) if "list" in item else (),
        numbers=None if item.get("unlimited") else _numbers(item, limit),
    )


# --- networks, and what counts only until a moment


def _list(name: str, lists: Mapping[str, Any]) -> tuple[Network, ...]:
    if name not in lists:
        raise ValueError(f"there is no list {name}")
    entry = lists[name]
    if isinstance(entry, Mapping):
        _refuse_unknown(entry, {"networks", "until", "note"})
        return _networks(entry["networks"]) if _counts(entry) else ()
    return _networks(entry)


def _networks(entries: Sequence[Any]) -> tuple[Network, ...]:
    found = []
    for entry in entries:
        if isinstance(entry, Mapping):
            _refuse_unknown(entry, {"network", "until", "note"})
            if not _counts(entry):
                continue
            entry = entry["network"]
        found.append(ip_network(str(entry)))
    return tuple(found)


def _counts(entry: Mapping[str, Any]) -> bool:
    """Not over yet. Raises ValueError for what is over soon: nobody could say which requests it still counted for."""
    if "until" not in entry:
        return True
    left = _end(entry["until"]) - time.time()
    if 0 < left < _ENDS_SOON:
        raise ValueError(f"a part of it ends soon (until: {entry['until']})")
    return left > 0


def _end(until: object) -> float:
    """Unix seconds: the end of a day in UTC, or a moment."""
    value = until if isinstance(until, date) else datetime.fromisoformat(str(until))
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).timestamp()
    return (datetime(value.year, value.month, value.day, tzinfo=UTC) + timedelta(days=1)).timestamp()


def _strings(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(item) for item in value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# --- what a request is to a limit


def seen_as(peer: Address, forwarded_for: str | None, proxies: Sequence[Network]) -> Address:
    """The address that limits count for a request of `peer` with this X-Forwarded-For."""
    if forwarded_for and any(peer in network for network in proxies):
        return ip_address(forwarded_for)
    return peer


def cost_of(limit: Limit, body: object) -> float:
    """Tokens of a request with this body (decoded JSON): a number (rounded up) for itself, a list for its length,
    anything else and nothing for one."""
    if not isinstance(limit.cost, str):
        return limit.cost
    value = _at(limit.cost, body)
    if isinstance(value, list):
        return float(max(1, len(value)))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(max(1, math.ceil(value)))
    return 1.0


def _at(pointer: str, value: Any) -> Any:
    """RFC 6901; None where it leads nowhere."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
