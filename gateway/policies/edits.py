"""What an edit of the policies changes: for `sluice diff`, for the reload and for the console, in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from gateway.policies.model import Policies
from gateway.policies.read import load
from sessions.profiles.policies import VaultPolicy
from sluice.config.live import LivePolicies
from sluice.config.problems import PolicyError, Problem, quoted
from sluice.config.written import Change, changes

NEXT_START = ("listen", "admin.listen", "data", "store", "sessions.lease", "sessions.vault.url", "log.to")
"""What a process stands on, and what all processes must agree on, changes when they start again."""

_RESTART = "it answers from the next start on: restart Sluice"


def live(policies: Policies) -> LivePolicies[Policies]:
    """These policies, and from now on what edits of their file make of them."""
    return LivePolicies(policies, load, hold, changed)


def differences(before: Policies, after: Policies) -> Iterator[Change]:
    """Keys and values as they were written; the order of routes and limits too, where it changes."""
    yield from changes(before.written, after.written)
    for section in ("routes", "limits"):
        old, new = _in_both(section, before, after)
        if old != new:
            yield Change(section, ", ".join(old), ", ".join(new))


def changed(before: Policies, after: Policies) -> tuple[str, ...]:
    """The keys of what is live with an edit at once."""
    return tuple(change.key for change in differences(before, after) if not waits_for_restart(change.key))


def waits_for_restart(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NEXT_START)


def hold(running: Policies, edited: Policies) -> tuple[Policies, tuple[str, ...]]:
    """`edited` without what cannot change while we run, and the keys in which it would have.

    Raises PolicyError for routes `on` a listener that does not run yet: nothing would reach them until then.
    """
    _refuse_unknown_listeners(running, edited)
    sessions = replace(edited.sessions, lease=running.sessions.lease, vault=_vault(running, edited))
    admin = replace(edited.admin, listen=running.admin.listen)
    log = replace(edited.log, to=running.log.to)
    held = replace(
        edited,
        listen=running.listen,
        admin=admin,
        data=running.data,
        store=running.store,
        sessions=sessions,
        log=log,
    )
    old, new = _held(held), _held(edited)
    return held, tuple(key for key in old if old[key] != new[key])


def _vault(running: Policies, edited: Policies) -> VaultPolicy | None:
    """What one process has written, all others must find; a vault where there was none may be anywhere."""
    old, new = running.sessions.vault, edited.sessions.vault
    return replace(new, place=old.place) if old and new else new


def _held(policies: Policies) -> dict[str, object]:
    store = {f"store.{field.name}": getattr(policies.store, field.name) for field in fields(policies.store)}
    listen = {"listen": policies.listen, "admin.listen": policies.admin.listen}
    vault = policies.sessions.vault
    others = {
        "sessions.lease": policies.sessions.lease,
        "sessions.vault.url": vault.place if vault else None,
        "log.to": policies.log.to,
    }
    return {**listen, "data": policies.data, **store, **others}


def _refuse_unknown_listeners(running: Policies, edited: Policies) -> None:
    known = {listener.name for listener in running.listen}
    problems = [
        Problem(route.line, 0, f"routes[{index}].on", f"{quoted(name)} is new in listen", _RESTART, str(edited.source))
        for index, route in enumerate(edited.routes)
        for name in route.on
        if name not in known
    ]
    if problems:
        raise PolicyError(problems)


def _in_both(section: str, before: Policies, after: Policies) -> tuple[list[str], list[str]]:
    """The names that both have, in the order of each."""
    old, new = _items(section, before), _items(section, after)
    return [name for name in old if name in new], [name for name in new if name in old]


def _items(section: str, policies: Policies) -> list[str]:
    return list(dict.fromkeys(path[1] for path in policies.written if path[0] == section and len(path) > 1))
