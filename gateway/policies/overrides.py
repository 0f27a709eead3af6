"""`overrides` of a limit: other numbers for some of its subjects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gateway.policies.routes import JsonPointer
from gateway.policies.trust import list_name
from sluice.config import Rate, parsers
from sluice.config.fields import Fields, Value
from sluice.config.parsers import each, of, one_or_each
from sluice.config.problems import Malformed, one_of, quoted
from sluice.config.units import MAX_DURATION

if TYPE_CHECKING:
    from gateway.policies.limits import Limit

Per = Literal["session", "workspace", "ip", "event"]
OverriddenBy = Literal["session", "workspace", "list"]
NAMES = one_or_each(of(parsers.subject_glob))
SUBJECTS: tuple[OverriddenBy, ...] = ("session", "workspace", "list")
BUCKETS_NEEDED: dict[OverriddenBy, tuple[Per, ...]] = {
    "session": ("session",),
    "workspace": ("workspace", "session"),  # a session is of one workspace
    "list": ("ip",),
}
"""A bucket has one size: whoever gets another one must have a bucket that the others do not share."""

Taken = dict[tuple[OverriddenBy, str], str]
"""Which override is for whom, without an end."""


@dataclass(frozen=True, slots=True)
class Override:
    """Other numbers for some subjects of a limit; their buckets stay the same ones."""

    by: OverriddenBy
    names: tuple[str, ...]
    """Sessions or workspaces, `*` for any rest of a name; or one trusted list."""
    rate: Rate | None
    """None: unlimited."""
    burst: int
    """0 where it is unlimited."""
    until: float | None
    """Unix seconds of the first moment at which it no longer counts; None: it has no end."""


def override_list(value: Value, limit: Limit) -> tuple[Override, ...]:
    """Those of a limit, whose own numbers count where an override says nothing."""
    taken: Taken = {}
    return each(lambda item: _override(item, limit, taken))(value)


ABOUT = {
    "session": "Sessions; `*` stands for any rest of a name.",
    "workspace": "Workspaces, likewise.",
    "list": "Addresses in this list of `trust.lists`.",
    "until": "A day in UTC or a time, after which it no longer counts.",
    "unlimited": "They have no limit.",
    "rate": "Not written: that of the limit.",
    "burst": "Not written: that of the limit.",
}


def _override(value: Value, limit: Limit, taken: Taken) -> Override:
    with value.fields(ABOUT) as fields:
        by: OverriddenBy = fields.only_one(SUBJECTS, "is for nobody") or "session"
        names: tuple[str, ...] = fields.take("session", NAMES, ())
        names = fields.take("workspace", NAMES, names)
        names = fields.take("list", lambda name: (list_name(name),), names)
        found = Override(by, names, *_numbers(value, fields, limit), until=None)
        found = replace(found, until=fields.take("until", parsers.until, None))
        if found.rate is not None:
            _refuse_second_size(fields, by, limit.per)
            _refuse_cost_over_burst(value, fields, found, limit.cost)
            if fields.sound("rate", "burst") and ("rate" in fields or "burst" in fields):
                refuse_slow_refill(fields, found.rate, found.burst)
    for name in found.names:
        _refuse_repeated(value, (by, name), taken)
        if found.until is None:
            taken[by, name] = value.key
    return found


def _numbers(value: Value, fields: Fields, limit: Limit) -> tuple[Rate | None, int]:
    """Rate and burst; no rate: unlimited."""
    unlimited = fields.take("unlimited", _true, False)
    rate = fields.take("rate", parsers.rate, None) or limit.rate
    burst = fields.take("burst", parsers.count, None) or limit.burst or rate.amount
    given = [name for name in ("rate", "burst") if name in fields]
    # Another key among them is unknown, and refused as such.
    if len(fields) == sum(name in fields for name in (*SUBJECTS, "until")):
        value.note(Malformed("changes nothing", "add rate, burst or unlimited: true"))
    if "unlimited" in fields and given:
        value.note(Malformed(f"has unlimited and {given[0]}", "keep one of them"))
    return (None, 0) if unlimited else (rate, burst)


def _refuse_second_size(fields: Fields, by: OverriddenBy, per: tuple[Per, ...]) -> None:
    needed = BUCKETS_NEEDED[by]
    if by in fields and not set(needed) & set(per):
        message = f"the limit has no buckets per {one_of(needed)}, so one bucket would have two sizes"
        fields.wrong(by, Malformed(message, f"add {needed[0]} to per, or write unlimited: true"))


def _refuse_cost_over_burst(value: Value, fields: Fields, found: Override, cost: int | JsonPointer) -> None:
    if isinstance(cost, int) and found.burst < cost and fields.sound("rate", "burst"):
        message = f"a burst of {found.burst} is less than the cost of one event ({cost}), so none ever passes"
        malformed = Malformed(message, "raise burst or lower cost")
        fields.wrong("burst", malformed) if "burst" in fields else value.note(malformed)


def refuse_slow_refill(fields: Fields, rate: Rate, burst: int) -> None:
    """A bucket expires when it is full, which must be a moment that the store can hold."""
    if burst * rate.interval > MAX_DURATION:
        message = f"a burst of {burst} at {rate} is full again only after more than ten years"
        fields.wrong("burst" if "burst" in fields else "rate", Malformed(message, "lower burst or raise rate"))


def _refuse_repeated(value: Value, subject: tuple[OverriddenBy, str], taken: Taken) -> None:
    if subject in taken:
        by, name = subject
        raise Malformed(f"{taken[subject]} is already for {by} {quoted(name)}, without an end", "keep one")


def _true(value: Value) -> bool:
    value.takes({"const": True})
    if value.text() != "true":
        raise Malformed(f"{quoted(value.text())} is not known here", "write true, or remove it")
    return True
