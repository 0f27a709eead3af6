"""All paths of the contract go to the right place by the policies as they are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.plan import Invalid, Plan, Planner
from gateway.policies import Policies, ToUpstream, ToWorkers, load
from gateway.policies.routes import How
from gateway.request import head_of
from sluice.http.server.head import read_head
from sluice.http.via import Via

POLICIES = Path(__file__).parents[3] / "policies.yaml"
BODY = b'{"session_id": "S-1", "workspace_id": 7, "api_key": "k"}'
MIB = 2**20
PASSED_ON = ("place", "owner", "any")


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> Policies:
    for name in ("WHATSAPP_HMAC_SECRET", "SLUICE_CONSOLE_TOKEN"):
        monkeypatch.setenv(name, "secret")
    return load(POLICIES)


def plan_of(policies: Policies, request_line: str) -> Plan:
    head = f"{request_line} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {len(BODY)}\r\n\r\n"
    request = head_of(read_head(head.encode()), "127.0.0.1", "http", policies.trust, Via())
    plan = Planner(policies).plan(request, BODY, 0.0)
    assert not isinstance(plan, Invalid), plan.refusal.detail
    return plan


@pytest.mark.parametrize(
    ("request_line", "how", "session"),
    [
        ("POST /api/sessions", "place", "S-1"),
        ("GET /api/sessions?api_key=k", "list", None),
        ("GET /api/sessions/S-1/status?api_key=k", "owner", "S-1"),
        ("GET /api/sessions/S-1/metadata", "owner", "S-1"),
        ("PUT /api/sessions/S-1/metadata", "owner", "S-1"),
        ("DELETE /api/sessions/S-1", "owner", "S-1"),
        ("POST /api/sessions/S-1/reconnect", "owner", "S-1"),
        ("POST /api/sessions/S-1/regenerate-qr", "owner", "S-1"),
        ("POST /api/sessions/S-1/restore", "owner", "S-1"),
        ("GET /api/sessions/S-1/qr", "owner", "S-1"),
        ("POST /api/messages/send", "owner", "S-1"),
        ("POST /api/messages/send-media", "owner", "S-1"),
        ("POST /api/messages/bulk-send", "owner", "S-1"),
        ("GET /api/messages/S-1/status?message_id=true_4917", "owner", "S-1"),
        ("GET /api/messages/S-1/validate", "owner", "S-1"),
        ("POST /api/messages/send-template", "any", None),
        ("POST /api/messages/mark-read", "any", None),
        ("GET /api/internal/sessions/S-1/last-activity", "owner", "S-1"),
        ("GET /health", "health", None),
        ("GET /health/ready", "health", None),
        ("GET /health/live", "health", None),
        ("GET /health/detailed", "health", None),
        ("GET /health/metrics", "health", None),
        ("GET /info", "any", None),
        ("POST /cleanup/run", "any", None),
        ("GET /cleanup/stats", "any", None),
        ("POST /cleanup/S-1", "owner", "S-1"),
        ("GET /remoteauth/health", "any", None),
        ("GET /remoteauth/redis", "any", None),
        ("GET /remoteauth/sessions", "any", None),
        ("GET /remoteauth/migration", "any", None),
        ("POST /sessions/S-1/logout", "any", "S-1"),
    ],
)
def test_what_is_meant_for_workers_is_routed_to_them(
    policies: Policies, request_line: str, how: How, session: str | None
) -> None:
    plan = plan_of(policies, request_line)
    assert plan.destination == ToWorkers(how)
    assert plan.subject.session == session
    method, _, target = request_line.partition(" ")
    path, _, query = target.partition("?")
    shouted = plan_of(policies, f"{method} {path.upper()}/?{query}")
    assert shouted.destination == plan.destination, "workers ignore the case of letters, and a final slash"
    assert shouted.subject.session == session, "but not the case of a session"


@pytest.mark.parametrize(
    "request_line", ["GET /", "GET /API/whatsapp/x", "GET /sessions", "GET /sessions/S-1", "GET /up"]
)
def test_everything_else_is_laravels(policies: Policies, request_line: str) -> None:
    assert plan_of(policies, request_line).destination == ToUpstream("laravel")


def test_only_sends_are_counted_as_such(policies: Policies) -> None:
    sends = [route.path for route in policies.routes if route.event is not None and isinstance(route.action, ToWorkers)]
    assert sends == ["/api/messages/send", "/api/messages/send-media", "/api/messages/bulk-send"]
    assert plan_of(policies, "GET /api/messages/S-1/status").subject.event is None


def test_whatever_is_passed_on_to_workers_fits_their_contract(policies: Policies) -> None:
    """They take bodies of 50 MB, and answer, or end themselves, after 60 s at most."""
    passed_on = [it for it in policies.routes if isinstance(it.action, ToWorkers) and it.action.how in PASSED_ON]
    assert len(passed_on) > 10
    assert {(route.body, route.headers, route.idle) for route in passed_on} == {(50 * MIB, 60.0, 60.0)}
