"""Rules for alerts that can never fire, and receivers that nobody uses: for `sluice check`, and for `status`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from gateway.policies.alerts import Rule
from gateway.policies.model import Policies
from relay.policies import OUTBOX


def alert_warnings(policies: Policies) -> Iterator[str]:
    alerts = policies.alerts
    yield from never_fire(policies)
    for name in sorted(alerts.receivers.keys() - {one for rule in alerts.rules for one in rule.to}):
        yield f"alerts.receivers.{name}: never used"


def never_fire(policies: Policies) -> Iterator[str]:
    """Each of these rules, and why."""
    for index, rule in enumerate(policies.alerts.rules):
        why = _why_never(rule, policies)
        if why:
            yield f"alerts.rules[{index}]: {rule.when} never fires, as {why}"


def _why_never(rule: Rule, policies: Policies) -> str:
    match rule.when:
        case "circuit_open" | "backlog_age" | "backlog_full" | "dead_letters" | "dead_letters_growing":
            return _none_of(rule, policies.relay.endpoints, "endpoint", "relay.endpoints")
        case "no_relay" if not policies.relay.endpoints.keys() - {OUTBOX}:
            return "there is no endpoint (relay.endpoints)"
        case "upstream_failing":
            return _none_of(rule, {*policies.upstreams, "workers"}, "upstream", "upstreams")
        case "limit_refusing":
            return _none_of(rule, [limit.id for limit in policies.limits], "limit", "limits")
        case "worker_never_seen":
            names = [worker.name for worker in policies.sessions.workers]
            return _none_of(rule, names, "existing worker", "sessions.workers")
        case "vault_stale" if policies.sessions.vault is None:
            return "there is no vault (sessions.vault)"
    return ""


def _none_of(rule: Rule, names: Collection[str], what: str, section: str) -> str:
    if not names:
        return f"there is no {what} ({section})"
    if rule.only and not any(fnmatchcase(name, glob) for name in names for glob in rule.only):
        return f"only ({', '.join(rule.only)}) is no {what}; there are {', '.join(sorted(names))}"
    return ""
