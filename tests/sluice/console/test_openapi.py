"""The description of the admin API: valid, complete, and true of what a deployment answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.alerts.board import Board, Memory, Notification, ReceiverState, silence
from gateway.alerts.decide import Alert, Silence
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
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from tests.relay.making import accept, event
from tests.sessions.making import place
from tests.sessions.profiles.making import profile
from tests.sluice.console.contract_worker import ContractWorker, serving
from tests.sluice.console.deployment import CONSOLE, VAULT, policies_in
from tests.sluice.console.test_acting import bury
from tests.sluice.console.test_http import BEARER, http

__all__ = ["http"]
pytestmark = pytest.mark.anyio


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    return policies_in(tmp_path, CONSOLE + VAULT + ALERTS)


@pytest.fixture
async def worker() -> AsyncIterator[ContractWorker]:
    async with serving(ContractWorker(ours=True)) as worker:
        yield worker


ALERTS = """
alerts:
  receivers: {chat: {command: [/bin/echo, taken]}, gone: {command: [/bin/false]}}
  rules:
    - {when: circuit_open, to: chat}
    - {when: backlog_age, over: 1m, only: [crm], to: [chat, gone]}
"""
CALLS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "show_status": ("/status", None),
    "show_history": ("/history?range=day", None),
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
    "nearest_limits": ("/limits/nearest?seconds=60", None),
    "show_policies": ("/policies", None),
    "try_policies": ("/policies/try", {"text": "version: 1"}),
    "explain_request": ("/explain", {"path": "/hook", "headers": ["X-A: 1"]}),
    "show_limits": ("/limits?session=s1", None),
    "reset_limits": ("/limits/reset", {"session": "s1", "dry_run": True}),
    "release_delayed": ("/limits/release", {"session": "s1"}),
    "find_events": ("/events?session=s1", None),
    "resend_events": ("/events/resend", {"session": "s4", "endpoint": "laravel"}),
    "show_event": ("/events/evt_1", None),
    "list_sessions": ("/sessions", None),
    "show_session": ("/sessions/s1", None),
    "create_session": ("/created/s9", {"workspace": "7", "dry_run": True}),
    "show_qr": ("/qr/ended", None),
    "pair_session": ("/pairing/s1", {"phone": "4917012345"}),
    "log_out_session": ("/logouts/s1", {"dry_run": True}),
    "delete_session": ("/deleted/s1", {"dry_run": True}),
    "forget_session": ("/forgotten/s1", {"dry_run": True}),
    "move_session": ("/moves/s1", {"to": "w1"}),
    "release_session": ("/releases/s1", {"dry_run": True}),
    "clean_accounts": ("/cleaning/accounts", {"accounts": [{"session": "s1", "workspace": "1"}], "dry_run": True}),
    "clean_duplicates": ("/cleaning/duplicates", {"dry_run": True}),
    "drain_worker": ("/drains/w1", {}),
    "try_endpoint": ("/tries/laravel", {"path": "/hooks"}),
    "clean_sessions": ("/cleaning", {"dry_run": True}),
    "rebalance_sessions": ("/rebalancing", {"dry_run": True}),
    "watch_sessions": ("/unhealthy", None),
    "restart_session": ("/restarts/s1", {"dry_run": True}),
    "restore_session": ("/restored/ended", {"dry_run": True}),
    "list_profiles": ("/vault/sessions", None),
    "show_profile": ("/vault/sessions/s1", None),
    "verify_profiles": ("/vault/verify?scratch=true", None),
    "prune_profiles": ("/vault/prune", {"dry_run": True}),
    "rekey_profiles": ("/vault/rekey", {"confirm": True}),
    "delete_profile": ("/vault/delete/s1", {"confirm": True}),
    "undelete_profile": ("/vault/undelete/gone", {}),
    "list_audit": ("/audit", None),
    "list_alerts": ("/alerts?history=10", None),
    "test_alerts": ("/alerts/test", {}),
    "silence_alerts": ("/alerts/silence", {"kind": "circuit_open", "seconds": 7200, "why": "moving"}),
    "unsilence_alerts": ("/alerts/unsilence", {"kind": "dead_letters", "subject": "crm"}),
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
        (route.path.replace(":id}", "}"), method)
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


async def note_history(parts: Resources) -> None:
    values = [Value("sum", Series(chart, "laravel", "0.5"), 3) for chart in ("deliveries", "request_seconds")]
    await parts.store.run_all([note("a", 1, 0.0, values)])


async def keep_logins(parts: Resources, folder: Path) -> None:
    """One that is kept, and one that is deleted."""
    assert parts.policies.sessions.vault is not None
    vault = open_vault(parts.policies.sessions.vault, parts.store)
    for session in ("s1", "gone"):
        fence = (await vault.generations.claim(session)).fence
        assert isinstance(await vault.save(session, fence, profile(folder, size=1000), Origin()), Saved)
    await vault.generations.delete("gone", None)


async def remember_alerts(parts: Resources) -> None:
    """One that is told, its history, and a silence."""
    alert = Alert("circuit_open", "laravel", "it is open", 1e9, fires=True, notified={"chat": 1e9})
    failing = ReceiverState(taken_at=1e9, failing_since=1e9, failures=2, why="answered 500")
    memory = Memory({("circuit_open", "laravel"): alert}, {"gone": failing, "chat": ReceiverState(taken_at=1e9)})
    notified = Notification(1e9, "chat", "firing", "circuit_open", "laravel", "it is open")
    assert await Board(parts.store, "one", "web-1").keep(0, memory.encode(), [notified]) == 1
    await silence(parts.store, "dead_letters", "crm", Silence("dead_letters", "crm", 4e9))


@pytest.mark.parametrize("identity", CALLS)
async def test_what_is_answered_is_what_is_described(
    http: httpx2.AsyncClient, parts: Resources, identity: str, tmp_path: Path, worker: ContractWorker
) -> None:
    await bury(parts, "evt_1", body=b'{"to":"49170"}')
    await deliver_and_keep(parts, "evt_kept")
    await accept(parts.queues["laravel"], event("s2", id="evt_waits"))
    await note_history(parts)
    await parts.registry.register(Worker("w1", "1", worker.url, 5))
    await place(parts.registry, "s1", {"workspace_id": 7})
    await parts.registry.want({"ended": {}})
    await parts.registry.end("ended", "deleted")
    await keep_logins(parts, tmp_path / "profile")
    await remember_alerts(parts)
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
