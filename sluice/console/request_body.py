"""What a person's program asks of the admin API, read strictly: a name it does not know is refused, never ignored."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import orjson
from starlette.requests import Request

from gateway.problems import Refusal

_LARGEST = 64 * 1024


async def members(request: Request, known: Set[str]) -> dict[str, Any]:
    """Of the JSON object in the body. Raises Refusal."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST:
            raise Refusal(413, f"at most {_LARGEST} bytes")
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "send a JSON object") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "send a JSON object")
    refuse_unknown(asked.keys(), known)
    return asked


def refuse_unknown(given: Set[str], known: Set[str]) -> None:
    """Raises Refusal."""
    strange = sorted(given - known)
    if strange:
        raise Refusal(400, f"{strange[0]} is not known here; there are {', '.join(sorted(known))}")
