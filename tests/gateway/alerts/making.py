"""Rules and receivers without a file."""

from __future__ import annotations

from typing import Any

from gateway.alerts.decide import Alert, Due, Found, Seen
from gateway.policies import AlertPolicy, Receiver, Rule
from sluice.config import Secret

HOOK = Receiver("chat", webhook=Secret(b"http://127.0.0.1:1/secret"))
PAGER = Receiver("pager", command=("/bin/true",))


def a_rule(when: str = "circuit_open", **changed: Any) -> Rule:
    """At once, to the chat, once more after an hour."""
    return Rule(**{"when": when, "hold": 0.0, "repeat": 3600.0, "to": ("chat",), **changed})


def policy(*rules: Rule) -> AlertPolicy:
    return AlertPolicy(receivers={"chat": HOOK, "pager": PAGER}, rules=rules)


def wrong(*subjects: str, kind: str = "circuit_open", text: str = "it is open") -> Seen:
    return Seen(tuple(Found(kind, subject, text) for subject in subjects))


WELL = Seen(())


def a_due(subject: str = "laravel", text: str = "its circuit is open", event: Any = "firing") -> Due:
    return Due("chat", event, Alert("circuit_open", subject, text, since=1_700_000_000.0, fires=True))
