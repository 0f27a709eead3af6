"""Which buckets a request takes from, how much, and how each of them is enforced. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, Literal, Protocol

from gateway.client_ip import Client
from gateway.limits.overrides import Overrides
from gateway.policies import (
    PREFIXES,
    AddressList,
    BodyCost,
    JsonPointer,
    Limit,
    Per,
    Prefixes,
    Route,
    applies_to_event,
    can_apply,
)
from sluice.http.problem import Refusal
from sluice.process.cache import Cache

REFUSE: Final = 0
DELAY: Final = 1
OBSERVE: Final = 2
GIVE_BACK: Final = 3
HOLD: Final = 4
Enforcement = Literal[0, 1, 2, 3, 4]
"""What a bucket without enough tokens does, numbered as in take.lua: it refuses the request; it lets it pass into debt,
to be delivered later; or it only counts. GIVE_BACK returns what an earlier call took. HOLD, which take.lua knows as a
refusal: the request waits in line until the bucket has its tokens."""
PREFIX: Final = "sl:{l}:"
KEY_PATTERNS = (
    "sl:{l}:<limit><subjects>",
    "sl:{l:<limit>}:<subjects>",
    "sl:{l}:line:<limit><subjects>",
    "sl:{l:<limit>}:line:<subjects>",
)
_MAX_COST: Final = 10**9


class Json(Protocol):
    """A parsed body (`request.Json`)."""

    def at(self, pointer: str) -> object:
        """What an RFC 6901 pointer points to; None where it points to nothing."""

    @property
    def readable(self) -> bool:
        """False: the body is no JSON, and every pointer leads to nothing."""


@dataclass(slots=True, init=False)
class Subject:
    """What a request is about. Never changed."""

    client: Client
    event: str | None
    session: str | None
    relayed: bool
    """It can wait: a limit with `over: queue` delays it. Anything else is rejected instead. What `over: hold` would
    keep waiting is rejected if it is relayed."""
    workspace: str | None = None

    def __init__(
        self, client: Client, event: str | None, session: str | None, relayed: bool, workspace: str | None = None
    ) -> None:
        self.client = client
        self.event = event
        self.session = session
        self.relayed = relayed
        self.workspace = workspace


@dataclass(frozen=True, slots=True)
class Ticket:
    """The place of one request in the lines of its buckets."""

    id: str
    since: float
    """Monotonic: when it came."""


@dataclass(slots=True, init=False)
class Bucket:
    """One limit for one subject, and what this request takes from it.

    The key never holds a number: an edited limit finds its level again, and an override is the same bucket with
    other numbers. NUL parts the subjects: a name cannot hold one (`request.name_from`), so two of them never read
    as one key.
    """

    limit: Limit
    key: str
    mode: Enforcement
    interval: float
    """Seconds for one token."""
    burst: int
    cost: int
    """Tokens. More than the burst can never pass at once, see `impossible`."""
    ticket: Ticket | None = None
    """Of a request that can wait for tokens (HOLD). None: it does not, nor does it wait for those that do."""

    def __init__(
        self,
        limit: Limit,
        key: str,
        mode: Enforcement,
        interval: float,
        burst: int,
        cost: int,
        ticket: Ticket | None = None,
    ) -> None:
        self.limit = limit
        self.key = key
        self.mode = mode
        self.interval = interval
        self.burst = burst
        self.cost = cost
        self.ticket = ticket

    @property
    def line(self) -> str:
        """The key of those who wait for its tokens."""
        tag, _, rest = self.key.partition("}:")
        return f"{tag}}}:line:{rest}"


class _Special:
    """What differs between subjects of a limit: overrides, a cost in the body, a share for which it is enforced."""

    def __init__(self, limit: Limit, lists: Mapping[str, AddressList]) -> None:
        self._overrides = Overrides(limit.overrides, lists) if limit.overrides else None
        self._cost = limit.cost if isinstance(limit.cost, BodyCost) else None
        self._enforce = limit.enforce

    def settle(self, bucket: Bucket, subject: Subject, json: Json | None, now: float | None) -> bool:
        """Whether the limit applies at all; the bucket has the subject's own numbers then. Raises Refusal 400 where
        its cost cannot be read."""
        if self._overrides is not None:
            now = time.time() if now is None else now
            override = self._overrides.of(subject.session, subject.workspace, subject.client, now)
            if override is not None:
                if override.rate is None:
                    return False
                bucket.interval, bucket.burst = override.rate.interval, override.burst
        if 0 < self._enforce < 1 and share_of(bucket.key.removeprefix(PREFIX)) >= self._enforce:
            bucket.mode = OBSERVE
        if self._cost is not None and json is not None:
            found = json.at(self._cost.pointer)
            cost = cost_of(found) if json.readable else None
            bucket.cost = _unreadable(bucket, self._cost, json, found) if cost is None else cost
        return True


def _unreadable(bucket: Bucket, cost: BodyCost, json: Json, found: object) -> int:
    """What a request costs that does not say so. A limit that only observes refuses nobody."""
    if cost.unreadable == "1":
        return 1
    if cost.unreadable == "max" or bucket.mode == OBSERVE:
        return bucket.burst
    what = f"{cost.pointer} is {_kind(found)}" if json.readable else "the body is not JSON"
    detail = f"what this costs of limit {bucket.limit.id} cannot be read: {what}"
    raise Refusal(400, f"{detail}; {cost.pointer} must be a number, a list or an object", limit=bucket.limit.id)


def _kind(found: object) -> str:
    if isinstance(found, bool):
        return "a boolean"
    return "a string" if isinstance(found, str) else "no number"


_PLACES: Mapping[Per, int] = {"session": 0, "workspace": 1, "event": 2, "ip": 3}
_Row = tuple[
    Limit,
    str,  # how its keys begin
    tuple[int, ...],  # where the subjects stand that follow
    AddressList | None,  # whom it leaves alone
    tuple[Enforcement, Enforcement],  # for what is not relayed, and for what is
    float,
    int,
    int,
    _Special | None,  # None for most
]
"""What is the same for all requests of a limit. A plain tuple: each request takes all of them apart."""


class Limits:
    """The limits of the policies, and which of them a request meets."""

    def __init__(self, limits: Sequence[Limit], lists: Mapping[str, AddressList], *, spread: bool = False) -> None:
        """`spread`: over the slots of a cluster, each limit in one."""
        self._prefixes = tuple(sorted({limit.prefixes for limit in limits} - {PREFIXES}))
        self._rows = [_row(limit, lists, self._prefixes, spread) for limit in limits]
        self._rows_of: Cache[str | None, list[_Row]] = Cache(2**20)

    def buckets(self, subject: Subject, json: Json | None = None, now: float | None = None) -> list[Bucket]:
        """Of all limits that apply. A limit whose subject is missing does not: nobody shares an "unknown".

        `json` is looked into for costs; `now` (Unix seconds; None: this moment) is for what has an end.
        """
        client = subject.client
        values: tuple[str | None, ...] = (subject.session, subject.workspace, subject.event, client.subject)  # _PLACES
        if self._prefixes:
            values += tuple([_network(client, bits) for bits in self._prefixes])
        found = []
        for limit, key, places, exempt, modes, interval, burst, cost, special in self._applicable(subject.event):
            if exempt is not None and exempt.holds(client.address, time.time() if now is None else now):
                continue
            for place in places:
                value = values[place]
                if value is None:
                    break
                key += "\0" + value
            else:
                bucket = Bucket(limit, key, modes[subject.relayed], interval, burst, cost)
                if special is None or special.settle(bucket, subject, json, now):
                    found.append(bucket)
        return found

    def _applicable(self, event: str | None) -> list[_Row]:
        known = self._rows_of.get(event)
        if known is not None:
            return known
        rows = [row for row in self._rows if applies_to_event(row[0].events, event)]
        return self._rows_of.keep(event, rows, event.__sizeof__() + 16 * len(rows))


def _row(limit: Limit, lists: Mapping[str, AddressList], prefixes: tuple[Prefixes, ...], spread: bool) -> _Row:
    plain = isinstance(limit.cost, int) and not limit.overrides and limit.enforce in (0.0, 1.0)
    usual: Enforcement = OBSERVE if limit.observe else HOLD if limit.over == "hold" else REFUSE
    places = dict(_PLACES)
    if limit.prefixes in prefixes:
        places["ip"] = len(_PLACES) + prefixes.index(limit.prefixes)
    return (
        limit,
        f"sl:{{l:{limit.id}}}:" if spread else PREFIX + limit.id,
        tuple(places[by] for by in limit.per),
        AddressList.joined(lists[name] for name in limit.exempt) if limit.exempt else None,
        (usual, DELAY if limit.over == "queue" and not limit.observe else REFUSE if usual == HOLD else usual),
        limit.rate.interval,
        limit.burst,
        limit.cost if isinstance(limit.cost, int) else 1,
        None if plain else _Special(limit, lists),
    )


def _network(client: Client, prefixes: Prefixes) -> str:
    """Where only the usual bits count, it is called as it is without any."""
    address = client.address
    which = 0 if address.version == 4 else 1
    return client.subject if prefixes[which] == PREFIXES[which] else _prefix(address, prefixes[which])


@lru_cache(maxsize=4_096)
def _prefix(address: IPv4Address | IPv6Address, bits: int) -> str:
    return str(ip_network((address, bits), strict=False))


def impossible(buckets: list[Bucket]) -> Bucket | None:
    """The one whose burst is less than what this request costs: waiting does not help, asking for less does.

    Not one that observes, nor one that drops: it drops this one as well. One that queues counts: a debt without
    bounds would hold up all who share the bucket.
    """
    for bucket in buckets:
        if bucket.cost > bucket.burst and bucket.mode != OBSERVE and bucket.limit.over != "drop":
            return bucket
    return None


def cost_pointers(limits: Sequence[Limit], route: Route) -> tuple[JsonPointer, ...]:
    """Where the body of a request of this route is looked into for its cost; none: it need not be read for that."""
    return tuple(
        dict.fromkeys(limit.cost for limit in limits if isinstance(limit.cost, JsonPointer) and can_apply(limit, route))
    )


def cost_of(found: object) -> int | None:
    """Tokens: a number (rounded up) for itself, a list and an object for their length, nothing for one. None: it is
    something else."""
    if found is None:
        return 1
    if isinstance(found, (list, Mapping)):
        return max(1, len(found))
    if isinstance(found, (str, bool)) or not isinstance(found, (int, float)) or found != found:
        return None
    return math.ceil(min(found, _MAX_COST)) if found > 1 else 1


def share_of(name: str) -> float:
    """Where a subject of a limit stands between 0 and 1: always the same, in every process, and evenly spread."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) / 2**64
