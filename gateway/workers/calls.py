"""What a request for a worker is, by the contract that the existing workers keep. Pure.

Their paths (Express) ignore the case of letters and a final slash. What they have no route for is `other`, and so is
what needs no care of ours: it is passed on and answered by a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gateway.routing import segments_of
from sluice.process.cache import Cache

Call = Literal[
    "create",
    "reconnect",
    "regenerate_qr",
    "restore",
    "delete",
    "status",
    "health",
    "send",
    "send_media",
    "bulk_send",
    "message_status",
    "list",
    "other",
]
STARTS: frozenset[Call] = frozenset({"create", "reconnect", "regenerate_qr", "restore"})
"""Those that may open a browser on the login of the session."""
QUEUED: frozenset[Call] = frozenset({"send", "send_media", "bulk_send", "other"})
"""Those that may be stored and given to a worker later: sends, and what the contract knows nothing of."""
_SESSION = "*"
_CALLS: dict[tuple[str, tuple[str, ...]], Call] = {
    ("POST", ("api", "sessions")): "create",
    ("GET", ("api", "sessions")): "list",
    ("DELETE", ("api", "sessions", _SESSION)): "delete",
    ("GET", ("api", "sessions", _SESSION, "status")): "status",
    ("POST", ("api", "sessions", _SESSION, "reconnect")): "reconnect",
    ("POST", ("api", "sessions", _SESSION, "regenerate-qr")): "regenerate_qr",
    ("POST", ("api", "sessions", _SESSION, "restore")): "restore",
    ("POST", ("api", "messages", "send")): "send",
    ("POST", ("api", "messages", "send-media")): "send_media",
    ("POST", ("api", "messages", "bulk-send")): "bulk_send",
    ("GET", ("api", "messages", _SESSION, "status")): "message_status",
    ("GET", ("health",)): "health",
    ("GET", ("health", "ready")): "health",
    ("GET", ("health", "live")): "health",
    ("GET", ("health", "detailed")): "health",
}


def call_of(method: str, raw_path: bytes) -> Call:
    """`raw_path`: as it was received, without its query. Raises BadPath."""
    known = _calls.get((method, raw_path))
    if known is not None:
        return known
    return _calls.keep((method, raw_path), of_segments(method, segments_of(raw_path)), len(method) + len(raw_path))


_calls: Cache[tuple[str, bytes], Call] = Cache(2**20)


def of_segments(method: str, segments: Sequence[str]) -> Call:
    """The same of a path that is normalised already."""
    path = tuple(segment.lower() for segment in segments)
    if path[:1] == ("api",) and len(path) > 2 and (path[1], len(path)) != ("messages", 3):
        path = (*path[:2], _SESSION, *path[3:])
    return _CALLS.get(("GET" if method == "HEAD" else method, path), "other")
