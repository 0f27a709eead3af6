"""The OpenAPI 3.1 description of the workers' API, made of the dataclasses of its calls (`sessions.calls`)."""

from __future__ import annotations

from typing import Any

from sessions.calls import CALLS, PREFIX, Call, WorkerId
from sluice import __version__
from sluice.console.openapi import PROBLEM, Schemas

_SIGNED = """Every call is signed over its method, path and body, with the secret of a signature that `sessions.verify`
or `sessions.keys` names:

    X-Sluice-Timestamp: unix time in seconds
    X-Sluice-Signature: v1= and hex HMAC-SHA256(secret, v1 LF time LF METHOD LF path LF body)"""
_REFUSALS = {
    "400": "Something in the body is wrong; `detail` names the field and what it may be.",
    "401": "The signature is missing, does not match, or is too old.",
    "403": "No key is set in the policies, or this one may not say this.",
    "413": "The body is too long.",
    "503": "The store does not answer, or too many bodies are held; try again after `Retry-After` seconds.",
}
_RETRY_AFTER = {"Retry-After": {"description": "Whole seconds.", "schema": {"type": "integer", "minimum": 1}}}


def document() -> dict[str, Any]:
    schemas = Schemas()
    paths = {PREFIX + call.path: {"post": _operation(call, schemas)} for call in CALLS}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice: workers", "version": __version__, "description": _SIGNED},
        "security": [{"timestamp": [], "signature": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.made, "Problem": PROBLEM},
            "securitySchemes": {
                "timestamp": {"type": "apiKey", "in": "header", "name": "X-Sluice-Timestamp"},
                "signature": {"type": "apiKey", "in": "header", "name": "X-Sluice-Signature"},
            },
        },
    }


def _operation(call: Call, schemas: Schemas) -> dict[str, Any]:
    request = {"application/json": {"schema": schemas.closed(call.request)}}
    answer = {"application/json": {"schema": schemas.of(call.answer)}}
    made: dict[str, Any] = {
        "operationId": call.name,
        "summary": call.summary,
        "requestBody": {"required": True, "content": request},
        "responses": {"200": {"description": "Done.", "content": answer}, **_refusals(call)},
    }
    if "{id}" in call.path:
        made["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": schemas.of(WorkerId)}]
    return made


def _refusals(call: Call) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    codes = _REFUSALS | ({"409": call.conflict} if call.conflict else {})
    made: dict[str, Any] = {code: {"description": text, "content": content} for code, text in sorted(codes.items())}
    for code in made.keys() & {"409", "503"}:
        made[code]["headers"] = _RETRY_AFTER
    return made
