"""The section `limits`. What one limit says beside another, or beside the routes, is looked at in `contradictions`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from gateway.policies.hours import Hours, hours
from gateway.policies.overrides import Override, Per, override_list, refuse_slow_refill
from gateway.policies.routes import JsonPointer
from gateway.policies.trust import list_name
from sluice.config import Rate, parsers, units
from sluice.config.fields import Fields, Value, setting
from sluice.config.parsers import choice, each, of, one_or_each
from sluice.config.problems import Malformed, quoted

LimitHeader = Literal["ratelimit", "x-ratelimit"]
Over = Literal["queue", "hold", "drop", "reject"]
StoreAway = Literal["allow", "deny", "local"]
Unreadable = Literal["refuse", "max", "1"]
Unknown = Literal["report", "repeat"]
OF_SENDS = ("hold", "hours", "unknown")
"""Keys that a limit with `over: queue` has for the sends that it keeps."""
ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
PREFIX = re.compile(r"ip/([0-9]{1,3})(?:/([0-9]{1,3}))?")
SUBJECTS: tuple[Per, ...] = ("session", "workspace", "ip", "event")
SUBJECT = choice(*SUBJECTS)
MAX_LIMITS = 128
"""All of them can apply to one request: one call of take.lua decides them, and the answer's fields name them."""
Prefixes = tuple[int, int]
"""Bits of an IPv4 and of an IPv6 address that count."""
PREFIXES: Prefixes = (32, 64)
MAX_HOLD = 25.0
"""Seconds: Laravel gives up after 30, and then the worker has to answer as well."""
CURE = "write ip/24 (8 to 32) for IPv4, or ip/24/56 (16 to 128) for IPv6, too"


def _per(value: Value) -> tuple[tuple[Per, ...], Prefixes]:
    found: dict[Per, Prefixes] = {}
    each(lambda item: _subject(item, found))(value)
    return tuple(found), found.get("ip", PREFIXES)


def _subject(item: Value, found: dict[Per, Prefixes]) -> None:
    item.takes({"anyOf": [{"enum": list(SUBJECTS)}, parsers.pattern(PREFIX.pattern)]})
    prefix = PREFIX.fullmatch(item.text())
    subject: Per = "ip" if prefix else SUBJECT(item)
    bits = (int(prefix[1]), int(prefix[2] or PREFIXES[1])) if prefix else PREFIXES
    if not 8 <= bits[0] <= 32:
        raise Malformed(f"{quoted(item.text())} is not the prefix of an IPv4 address", CURE)
    if not 16 <= bits[1] <= 128:
        raise Malformed(f"{quoted(item.text())} is not the prefix of an IPv6 address", CURE)
    if subject in found:
        raise Malformed(f"{subject} is there twice", "keep one")
    found[subject] = bits


@dataclass(frozen=True, slots=True)
class BodyCost(JsonPointer):
    """Where the body says what a request costs."""

    unreadable: Unreadable = "refuse"
    """Where it does not: the request is refused, costs the whole burst, or one token."""


COST = {
    "json": "JSON pointer: a number stands there, or the length of a list or object counts.",
    "unreadable": "Where the body does not say it: 400, or it costs the whole burst, or one token.",
}


def _cost(value: Value) -> int | BodyCost:
    if not value.is_mapping:
        return parsers.count(value)
    with value.fields(COST) as fields:
        return BodyCost(
            fields.need("json", of(parsers.json_pointer), "", "json: /recipients"),
            fields.take("unreadable", choice("refuse", "max", "1"), "refuse"),
        )


ONE: int | BodyCost = 1


MODE = {
    "enforce": "For this share of the subjects, always the same ones; the others are only counted.",
}


def _enforce(value: Value) -> float:
    """The share of subjects for which it is enforced."""
    if not value.is_mapping:
        return {"observe": 0.0, "enforce": 1.0}[choice("observe", "enforce")(value)]
    with value.fields(MODE) as fields:
        return fields.need("enforce", of(units.percentage), 1.0, "enforce: 25%")


def _hold(value: Value) -> float:
    seconds = parsers.duration(value)
    if seconds > MAX_HOLD:
        cure = f"write {MAX_HOLD:.0f}s or less: Laravel waits for 30s"
        raise Malformed(f"{quoted(value.text())} is longer than callers wait for the answer", cure)
    return seconds


@dataclass(frozen=True, slots=True)
class Limit:
    id: str
    events: tuple[str, ...] = setting(one_or_each(of(parsers.event_glob)), (), name="event")
    """Event types or globs (`session_*`); empty: every request, with or without an event type."""
    per: tuple[Per, ...] = ()
    rate: Rate = setting(parsers.rate, Rate(1, 1.0), missing="rate: 1000/minute")
    """How fast a bucket fills, and how much it lets through in the long run."""
    burst: int = setting(parsers.count, 0)
    """Where it is not written, it is the amount of the rate."""
    over: Over = setting(choice("queue", "hold", "drop", "reject"), "reject")
    """Without tokens: 429 (`reject`), wait in line (`hold`), be stored and passed on at this pace (`queue`), or be
    answered 202 and forgotten (`drop`)."""
    exempt: tuple[str, ...] = setting(each(list_name), (), name="except")
    """Names of trusted lists that this limit leaves alone (`except` in the file)."""
    enforce: float = setting(_enforce, 1.0, name="mode")
    """The share of subjects it is enforced for: `enforce` all, `observe` none; the others are only counted."""
    when_store_away: StoreAway = setting(choice("allow", "deny", "local"), "local")
    """While the store does not answer: everything passes, nothing does, or each gateway lets its share through."""
    cost: int | BodyCost = setting(_cost, ONE)
    """Tokens of one request, or where its body says how many (`gateway.limits.applicable.cost_of`)."""
    prefixes: Prefixes = PREFIXES
    """For `per: ip`."""
    overrides: tuple[Override, ...] = ()
    hold: float = setting(_hold, MAX_HOLD)
    """Seconds that `over: hold` keeps a request waiting at most, and `over: queue` the caller of a send."""
    hours: Hours | None = setting(hours, None)
    """When sends that it keeps are given to their workers; None: always."""
    unknown: Unknown = setting(choice("report", "repeat"), "report")
    """What is done with a send that a worker was given and of which nobody knows whether it went out."""
    of_sends: tuple[str, ...] = ()
    """Which of `OF_SENDS` are written."""

    @property
    def observe(self) -> bool:
        """Evaluated and counted, enforced for nobody."""
        return self.enforce == 0.0


def limit_list(value: Value) -> tuple[Limit, ...]:
    taken: dict[str, str] = {}
    found = each(lambda item: _limit(item, taken))(value)
    if len(found) > MAX_LIMITS:
        raise Malformed(f"there are {len(found)} limits", f"keep to {MAX_LIMITS}, for one request can meet all of them")
    return found


ABOUT = {
    "per": "Each of these has its own bucket; none: all share one. `ip/24`: by IPv4 network, `ip/24/56`: IPv6 too.",
    "id": "1 to 64 of A-Z a-z 0-9 _ . -; its buckets are called by it, so it stays when numbers change.",
    "overrides": "Other numbers for some of its subjects; the most specific one counts.",
}


def _limit(value: Value, taken: dict[str, str]) -> Limit:
    with value.fields(ABOUT) as fields:
        nobody: tuple[tuple[Per, ...], Prefixes] = ((), PREFIXES)
        per, prefixes = fields.take("per", _per, nobody)
        read = fields.read(Limit, id="", per=per, prefixes=prefixes)
        # Where `per` is wrong, nobody knows what was meant, and no override is told that its subject is missing in it.
        written = read if fields.sound("per") else replace(read, per=SUBJECTS)
        name = fields.need("id", lambda text: _id(text, value.key, taken), "", "id: a name that stays")
        limit = replace(read, id=name, burst=read.burst or read.rate.amount)
        _refuse_share_of_nobody(fields, limit)
        _refuse_cost_over_burst(fields, limit)
        _refuse_without_over(fields, limit)
        if fields.sound("rate", "burst"):
            refuse_slow_refill(fields, limit.rate, limit.burst)
        overrides: tuple[Override, ...] = fields.take("overrides", lambda items: override_list(items, written), ())
    of_sends = tuple(key for key in OF_SENDS if key in fields) if limit.over == "queue" else ()
    return replace(limit, overrides=overrides, of_sends=of_sends)


def _refuse_without_over(fields: Fields, limit: Limit) -> None:
    if "hold" in fields and limit.over not in ("hold", "queue") and fields.sound("over", "hold"):
        fields.wrong("hold", Malformed("is said, and nothing is held", "write over: hold, or remove it"))
    for key in ("hours", "unknown"):
        if key in fields and limit.over != "queue" and fields.sound("over", key):
            fields.wrong(key, Malformed("is said, and nothing is queued", "write over: queue, or remove it"))


def _refuse_share_of_nobody(fields: Fields, limit: Limit) -> None:
    if 0 < limit.enforce < 1 and not limit.per and fields.sound("per", "mode"):
        cure = "add per: [session], or write observe or enforce"
        fields.wrong("mode", Malformed("is a share of the subjects, and the limit has none", cure))


def _refuse_cost_over_burst(fields: Fields, limit: Limit) -> None:
    if isinstance(limit.cost, int) and limit.burst < limit.cost and fields.sound("rate", "burst", "cost"):
        message = f"a burst of {limit.burst} is less than the cost of one event ({limit.cost}), so none ever passes"
        fields.wrong("burst" if "burst" in fields else "cost", Malformed(message, "raise burst or lower cost"))


def _id(value: Value, limit: str, taken: dict[str, str]) -> str:
    """Buckets in the store are called by it, so it must be the limit's own."""
    text = value.text()
    if not ID.fullmatch(text):
        raise Malformed(f"{quoted(text)} is not an id", "write 1 to 64 of A-Z a-z 0-9 _ . -")
    if text in taken:
        raise Malformed(f"{quoted(text)} is the id of {taken[text]}", "give each limit its own")
    taken[text] = limit
    return text
