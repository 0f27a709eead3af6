"""What a request for a worker is: every row of the contract's table of endpoints."""

from __future__ import annotations

import pytest

from gateway.workers.calls import call_of

CONTRACT = [
    ("POST /api/sessions", "create"),
    ("GET /api/sessions", "list"),
    ("GET /api/sessions/s1/status", "status"),
    ("GET /api/sessions/s1/metadata", "other"),
    ("PUT /api/sessions/s1/metadata", "other"),
    ("DELETE /api/sessions/s1", "delete"),
    ("POST /api/sessions/s1/reconnect", "reconnect"),
    ("POST /api/sessions/s1/regenerate-qr", "regenerate_qr"),
    ("POST /api/sessions/s1/restore", "restore"),
    ("POST /api/messages/send", "send"),
    ("POST /api/messages/send-media", "send_media"),
    ("POST /api/messages/bulk-send", "bulk_send"),
    ("GET /api/messages/s1/status", "message_status"),
    ("GET /api/messages/s1/validate", "other"),
    ("GET /api/internal/sessions/s1/last-activity", "other"),
    ("GET /health", "health"),
    ("GET /health/ready", "health"),
    ("GET /health/live", "health"),
    ("GET /health/detailed", "health"),
    ("GET /health/metrics", "other"),
    ("GET /info", "other"),
    ("GET /", "other"),
    ("POST /cleanup/run", "other"),
    ("POST /cleanup/s1", "other"),
    ("GET /cleanup/stats", "other"),
    ("GET /remoteauth/health", "other"),
    ("GET /remoteauth/redis", "other"),
    ("GET /remoteauth/sessions", "other"),
    ("GET /remoteauth/migration", "other"),
    ("POST /sessions/s1/logout", "other"),
    ("POST /api/messages/send-template", "other"),
    ("GET /api/sessions/s1/qr", "other"),
]


@pytest.mark.parametrize(("request_line", "call"), CONTRACT)
def test_every_endpoint_of_the_contract_is_known(request_line: str, call: str) -> None:
    method, path = request_line.split()
    assert call_of(method, path.encode()) == call
    assert call_of(method, path.encode() + b"/") == call, "a final slash is ignored"
    assert call_of(method, path.upper().encode()) == call, "so is the case of letters"


@pytest.mark.parametrize(
    ("method", "path", "call"),
    [
        ("GET", b"/api//sessions/./s%31/status", "status"),
        ("HEAD", b"/api/sessions/s1/status", "status"),
        ("POST", b"/api/sessions/s1/status", "other"),
        ("GET", b"/api/sessions/status", "other"),
        ("GET", b"/api/sessions/s1/status/more", "other"),
        ("DELETE", b"/api/sessions", "other"),
        ("GET", b"/api/messages/send/status", "message_status"),
        ("GET", b"/api/sessions/" + b"s" * 300 + b"/status", "status"),
    ],
)
def test_a_path_is_read_as_routes_read_it(method: str, path: bytes, call: str) -> None:
    assert call_of(method, path) == call
