"""An ASGI application that answers itself: what uvicorn alone costs."""

from __future__ import annotations

from typing import Any

_BODIES = {f"/{size}": b"x" * size for size in (64, 65536)}
_HEADERS = {path: [(b"content-length", b"%d" % len(body))] for path, body in _BODIES.items()}


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    path = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS[path]})
    await send({"type": "http.response.body", "body": _BODIES[path]})
