"""`GET /api/sessions`, answered from the registry."""

from __future__ import annotations

from gateway.problems import Refusal, Send, answer_json
from sessions.registry import Registry
from sluice.store.client import StoreAway, StoreRefused


async def list_sessions(registry: Registry, send: Send) -> int:
    try:
        rows = await registry.sessions()
    except (StoreAway, StoreRefused):
        raise Refusal(503, "the registry cannot be read right now", retry_after=b"1") from None
    sessions = [
        {
            "session_id": row.session,
            "workspace_id": row.workspace,
            "status": row.state,
            "phone_number": row.phone,
            "worker": row.worker,
        }
        for row in rows
    ]
    await answer_json(send, 200, {"success": True, "sessions": sessions, "total": len(sessions)})
    return 200
