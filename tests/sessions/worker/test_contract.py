"""Which test shows which call of the contract, on the unmodified wa-js in a real browser. No call without one."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import cast

from starlette.routing import Route

from sessions.worker.api import WorkerApi
from sessions.worker.worker import Worker

_TESTS = Path(__file__).parent / "browser"
_STANDS = "test_how_a_session_stands_is_answered_as_the_contract_has_it"
_CREATED = "test_a_session_is_created_shows_a_code_and_is_connected_once_it_is_scanned"
_CODE = "test_a_code_that_is_asked_for_anew_is_another_one_and_a_typed_one_pairs_as_well"
_AGAIN = "test_a_session_that_is_opened_again_needs_no_code_and_misses_and_doubles_nothing"
_NEWER = "test_a_page_that_is_outdated_is_opened_once_more_and_told_only_when_the_newer_one_is_as_well"
_ENDED = "test_a_session_that_is_ended_is_logged_out_and_its_login_is_gone"
CALLS = {
    "POST /api/sessions": _CREATED,
    "GET /api/sessions": _CREATED,
    "GET /api/sessions/{session}/status": _CREATED,
    "GET /api/sessions/{session}/qr": _CREATED,
    "POST /api/sessions/{session}/regenerate-qr": _CODE,
    "POST /api/sessions/{session}/pairing-code": _CODE,
    "POST /api/sessions/{session}/reconnect": _AGAIN,
    "POST /api/sessions/{session}/restore": _NEWER,
    "POST /api/sessions/{session}/logout": _ENDED,
    "DELETE /api/sessions/{session}": _ENDED,
    "GET /api/sessions/{session}/metadata": _STANDS,
    "PUT /api/sessions/{session}/metadata": _STANDS,
    "POST /api/messages/send": "test_a_text_is_sent_once_under_the_id_that_its_caller_made",
    "POST /api/messages/send-media": "test_media_are_fetched_and_sent_once",
    "POST /api/messages/bulk-send": "test_many_are_sent_one_after_the_other_and_each_once",
    "GET /api/messages/{session}/status": _STANDS,
    "GET /api/messages/{session}/validate": _STANDS,
    "GET /api/internal/sessions/{session}/last-activity": _STANDS,
    "GET /health": _STANDS,
    "GET /health/ready": _STANDS,
    "GET /health/live": _STANDS,
    "GET /health/detailed": _STANDS,
}
EVENTS = {
    "qr_code_generated": _CREATED,
    "session_authenticated": _CREATED,
    "session_ready": _CREATED,
    "session_disconnected": "test_a_session_that_is_ended_says_why_and_shows_a_new_code",
    "session_error": "test_what_blocks_a_number_is_said_and_its_login_is_kept",
    "message_received": "test_what_arrives_is_told_in_the_shape_of_the_contract",
    "message_sent": "test_a_text_is_sent_once_under_the_id_that_its_caller_made",
    "message_status_updated": "test_each_level_of_acknowledgement_is_told_as_the_contract_has_it",
    "typing_indicator": "test_typing_is_told_once_for_each_change",
    "chat_state_updated": "test_typing_is_told_once_for_each_change",
}


def test_each_call_has_its_test() -> None:
    app = WorkerApi(cast(Worker, None)).app()
    calls = {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert calls == CALLS.keys()


def test_the_tests_are_there_and_name_what_they_show() -> None:
    sources: dict[str, str] = {}
    for file in _TESTS.glob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.AsyncFunctionDef):
                sources[node.name] = ast.get_source_segment(text, node) or ""
    for call, name in CALLS.items():
        assert call.rpartition("/")[2].rpartition("}")[2] in sources[name], f"{call}: {name}"
    for event, name in EVENTS.items():
        assert event in sources[name], f"{event}: {name}"
