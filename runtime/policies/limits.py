"""The section `limits`."""

from __future__ import annotations

import re

from runtime.policies import parsers, units
from runtime.policies.fields import Value
from runtime.policies.model import Limit, Rate
from runtime.policies.parsers import choice, each, of
from runtime.policies.problems import Malformed, not_yet, quoted
from runtime.policies.references import References

ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
STAND_IN = Rate(1, 1.0)


def limit_list(value: Value, known: References) -> tuple[Limit, ...]:
    taken: dict[str, str] = {}
    return each(lambda item: _limit(item, known, taken))(value)


def _limit(value: Value, known: References, taken: dict[str, str]) -> Limit:
    with value.fields() as fields:
        fields.later("cost")
        rate = fields.need("rate", of(units.rate), STAND_IN, "rate: 1000/minute")
        return Limit(
            id=fields.need("id", lambda name: _id(name, value.key, taken), "", "id: a name that stays"),
            events=fields.take("event", _events, ()),
            per=fields.take("per", each(choice("session", "ip", "event", later=("workspace",))), ()),
            rate=rate,
            burst=fields.take("burst", parsers.count, rate.amount),
            over=fields.take("over", choice("queue", "drop", "reject"), "reject"),
            exempt=fields.take("except", each(known.lists.one), ()),
            observe=fields.take("mode", _observe, False),
            when_store_away=fields.take("when_store_away", choice("allow", "deny", "local"), "local"),
        )


def _id(value: Value, limit: str, taken: dict[str, str]) -> str:
    """Buckets in the store are called by it, so it must be the limit's own."""
    text = value.text()
    if not ID.fullmatch(text):
        raise Malformed(f"{quoted(text)} is not an id", "write 1 to 64 of A-Z a-z 0-9 _ . -")
    if text in taken:
        raise Malformed(f"{quoted(text)} is the id of {taken[text]}", "give each limit its own")
    taken[text] = limit
    return text


def _events(value: Value) -> tuple[str, ...]:
    return each(of(parsers.event_glob))(value) if value.is_list else (parsers.event_glob(value.text()),)


def _observe(value: Value) -> bool:
    if value.is_mapping:
        raise not_yet("a mode with settings", ", or write observe")
    return choice("observe")(value) == "observe"
