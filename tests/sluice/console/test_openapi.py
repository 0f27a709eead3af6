"""The description of the admin API: valid, complete, and true of what a deployment answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.policies import Policies
from gateway.resources import Resources
from relay.queue.queue import Queue, Settlement
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.vault import Saved
from sessions.registry import Worker
from sluice.console import http as api
from sluice.console.openapi import document
from sluice.console.operations import API, OPERATIONS
from tests.relay.making import accept, event
from tests.sessions.making import place
from tests.sessions.profiles.making import profile
from tests.sluice.console.deployment import CONSOLE, VAULT, policies_in
from tests.sluice.console.test_acting import bury
from tests.sluice.console.test_http import BEARER, http

__all__ = ["http"]
pytestmark = pytest.mark.anyio


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    return policies_in(tmp_path, CONSOLE + VAULT)


CALLS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "show_status": ("/status", None),
    "find_dead_letters": ("/dead", None),
    "show_dead_letter": ("/dead/laravel/evt_1", None),
    "replay_dead_letters": ("/dead/replay", {"session": "s1", "dry_run": True}),
    "drop_dead_letters": ("/dead/drop", {"all": True, "confirm": True}),
    "list_waiting": ("/queue", None),
    "show_waiting": ("/queue/-/evt_waits", None),
    "skip_waiting": ("/queue/skip", {"session": "s1", "dry_run": True}),
    "drop_waiting": ("/queue/drop", {"session": "s9", "confirm": True}),
    "move_queue": ("/queue/move", {"old": "gone", "new": "laravel", "confirm": True}),
    "list_circuits": ("/circuits", None),
    "probe_circuit": ("/probes/laravel", {}),
    "hold_circuit": ("/circuits/laravel", {"hold": "open", "why": "moving"}),
    "show_limits": ("/limits?session=s1", None),
    "reset_limits": ("/limits/reset", {"session": "s1", "dry_run": True}),
    "release_delayed": ("/limits/release", {"session": "s1"}),
    "find_events": ("/events?session=s1", None),
    "resend_events": ("/events/resend", {"session": "s4", "endpoint": "laravel"}),
    "show_event": ("/events/evt_1", None),
    "list_sessions": ("/sessions", None),
    "show_session": ("/sessions/s1", None),
    "forget_session": ("/forgotten/s1", {"dry_run": True}),
    "move_session": ("/moves/s1", {"to": "w1"}),
    "release_session": ("/releases/s1", {"dry_run": True}),
    "clean_sessions": ("/cleaning", {"dry_run": True}),
    "restore_session": ("/restored/ended", {"dry_run": True}),
    "list_profiles": ("/vault/sessions", None),
    "show_profile": ("/vault/sessions/s1", None),
    "verify_profiles": ("/vault/verify?scratch=true", None),
    "prune_profiles": ("/vault/prune", {"dry_run": True}),
    "rekey_profiles": ("/vault/rekey", {"confirm": True}),
    "delete_profile": ("/vault/delete/s1", {"confirm": True}),
    "undelete_profile": ("/vault/undelete/gone", {}),
}


def test_it_is_valid() -> None:
    validate(document())


async def test_it_is_served_without_a_token(http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{API}/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == document()


async def test_it_has_every_route_and_nothing_else(parts: Resources) -> None:
    described = {(path, method.upper()) for path, methods in document()["paths"].items() for method in methods}
    routes = {
        (route.path.replace(":path}", "}"), method)
        for route in api.routes(parts)
        for method in route.methods or ()
        if route.path.startswith(API) and method != "HEAD"
    }
    assert routes - {(f"{API}/openapi.json", "GET")} == described
    assert CALLS.keys() == {operation.id for operation in OPERATIONS}


def schema_of(identity: str) -> dict[str, Any]:
    """Of the answer, closed: what is not described must not be there either."""
    described = document()
    (found,) = (
        one for methods in described["paths"].values() for one in methods.values() if one["operationId"] == identity
    )
    schemas = {name: {"additionalProperties": False, **one} for name, one in described["components"]["schemas"].items()}
    schema: dict[str, Any] = found["responses"]["200"]["content"]["application/json"]["schema"]
    return {**schema, "components": {"schemas": schemas}}


async def deliver_and_keep(parts: Resources, identity: str) -> None:
    queue = Queue(parts.store, "laravel", lease=5.0, max_bytes=10**6, max_events=100, keep_bodies=True)
    await accept(queue, event("s4", id=identity))
    leased = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(one, "delivered", 0, "200 1 message_received") for one in leased], 0)


async def keep_logins(parts: Resources, folder: Path) -> None:
    """One that is kept, and one that is deleted."""
    assert parts.policies.sessions.vault is not None
    vault = open_vault(parts.policies.sessions.vault, parts.store)
    for session in ("s1", "gone"):
        fence = (await vault.generations.claim(session)).fence
        assert isinstance(await vault.save(session, fence, profile(folder, size=1000), Origin()), Saved)
    await vault.generations.delete("gone", None)


@pytest.mark.parametrize("identity", CALLS)
async def test_what_is_answered_is_what_is_described(
    http: httpx2.AsyncClient, parts: Resources, identity: str, tmp_path: Path
) -> None:
    await bury(parts, "evt_1", body=b'{"to":"49170"}')
    await deliver_and_keep(parts, "evt_kept")
    await accept(parts.queues["laravel"], event("s2", id="evt_waits"))
    await parts.registry.register(Worker("w1", "1", "http://127.0.0.1:3101", 5))
    await place(parts.registry, "s1", {"workspace_id": 7})
    await parts.registry.want({"ended": {}})
    await parts.registry.end("ended", "deleted")
    await keep_logins(parts, tmp_path / "profile")
    path, body = CALLS[identity]
    answer = await http.request("GET" if body is None else "POST", API + path, json=body, headers=BEARER)
    assert answer.status_code == 200
    checker = Draft202012Validator(schema_of(identity), format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert list(checker.iter_errors(answer.json())) == []


async def test_a_refusal_is_what_is_described(http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{API}/events/evt_9", headers=BEARER)
    problem = document()["components"]["schemas"]["Problem"]
    assert (answer.status_code, list(Draft202012Validator(problem).iter_errors(answer.json()))) == (404, [])


def test_requests_say_what_is_required_and_within_which_bounds() -> None:
    paths = document()["paths"]
    hold = paths[f"{API}/circuits/{{endpoint}}"]["post"]
    body = hold["requestBody"]["content"]["application/json"]["schema"]
    assert (body["required"], body["additionalProperties"]) == (["hold"], False)
    assert body["properties"]["hold"]["enum"] == ["open", "closed", None]
    assert body["properties"]["why"]["maxLength"] == 500
    assert [(one["name"], one["in"], one["required"]) for one in hold["parameters"]] == [("endpoint", "path", True)]
    limit = next(one for one in paths[f"{API}/dead"]["get"]["parameters"] if one["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
