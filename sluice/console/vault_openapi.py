"""The OpenAPI 3.1 description of the vault's API: its heads are read by `sessions.profiles.calls`, its answers are the
dataclasses there."""

from __future__ import annotations

from typing import Any

from sessions.profiles import calls
from sessions.profiles.calls import DeletedProfile, SavedProfile, SessionName, Started
from sluice import __version__
from sluice.console.openapi import PROBLEM, Schemas

_SIGNED = """Every call is signed over its head, with the secret of the signature that `sessions.vault.verify` names:

    X-Sluice-Timestamp: unix time in seconds
    X-Sluice-Signature: v1= and hex HMAC-SHA256(secret, v1 LF time LF METHOD LF path LF fence LF digest)

`fence` is the value of X-Sluice-Fence, empty where none is sent; `digest` the hex SHA-256 of the body, that of nothing
where there is none."""
_EVERYWHERE = {
    "400": "A header, or the name, is wrong; `detail` says which and what it may be.",
    "401": "The signature is missing, does not match, or is too old.",
    "403": "The policies name no signature.",
    "404": "There is no login (`X-Sluice-Reason` says so), or the policies have no vault.",
    "503": "The store, or the place of the chunks, does not answer, or too many transfers are under way.",
    "507": "The store is full, or a disk is.",
}
_MORE: dict[str, dict[str, str]] = {
    "post": {"500": "There are generations, and none can be restored."},
    "head": {},
    "get": {"412": "This generation is not kept.", "500": "There are generations, and none can be restored."},
    "put": {
        "400": "A header is wrong, or the zip is broken, unsafe, not what was signed, or has no login in it.",
        "408": "No more of the zip came.",
        "409": "`reason`: a later start has the session (stale), or its login was deleted.",
        "412": "This generation is not the newest one.",
        "413": "The zip is too long, packed or unpacked.",
    },
    "delete": {"409": "`reason`: a later start has the session (stale)."},
}
_SUMMARIES = {
    "post": "A start of the session: takes the next fence, and prepares what GET answers.",
    "head": "Which generation is the newest.",
    "get": "The profile, as the zip of RemoteAuth.",
    "put": "The profile becomes a new generation.",
    "delete": "The login has ended; its generations stay until somebody prunes them.",
}
_TAG: dict[str, Any] = {"type": "string", "pattern": '^"(0|[1-9][0-9]{0,14})"$', "maxLength": 17}
_FENCE: dict[str, Any] = {"type": "string", "pattern": "^[1-9][0-9]{0,15}$", "maxLength": 16}
_DIGEST: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-f]{64}$", "maxLength": 64}
_TEXT: dict[str, Any] = {"type": "string", "pattern": "^[ -~]*$", "maxLength": calls.MAX_TEXT}
_BACKEND: dict[str, Any] = {"type": "string", "enum": ["leveldb", "sqlite"]}
_ZIP: dict[str, Any] = {"application/zip": {}}


def document() -> dict[str, Any]:
    schemas = Schemas()
    answers = {
        "post": ("200", _json(schemas, Started), {}),
        "head": ("200", _ZIP, _about()),
        "get": ("200", _ZIP, _about() | {calls.DIGEST: _DIGEST}),
        "put": ("201", _json(schemas, SavedProfile), {"ETag": _TAG}),
        "delete": ("200", _json(schemas, DeletedProfile), {}),
    }
    name = {"name": "session", "in": "path", "required": True, "schema": schemas.of(SessionName)}
    known: Any = PROBLEM["properties"]
    problem = PROBLEM | {"properties": {**known, "reason": {"type": "string"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice: vault", "version": __version__, "description": _SIGNED},
        "security": [{"timestamp": [], "signature": []}],
        "paths": {
            calls.PATH: {"parameters": [name], **{one: _operation(one, *answer) for one, answer in answers.items()}}
        },
        "components": {
            "schemas": {**schemas.made, "Problem": problem},
            "securitySchemes": {
                "timestamp": {"type": "apiKey", "in": "header", "name": "X-Sluice-Timestamp"},
                "signature": {"type": "apiKey", "in": "header", "name": "X-Sluice-Signature"},
            },
        },
    }


def _operation(method: str, status: str, content: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done.", "content": content}
    if headers:
        answer["headers"] = {name: {"schema": schema} for name, schema in headers.items()}
    made: dict[str, Any] = {
        "operationId": f"vault_{method}",
        "summary": _SUMMARIES[method],
        "responses": {status: answer, **_refusals(method)},
    }
    parameters = [_header(*one) for one in _headers_of(method)]
    if parameters:
        made["parameters"] = parameters
    if method == "put":
        made["requestBody"] = {"required": True, "content": _ZIP | {"application/octet-stream": {}}}
    return made


def _headers_of(method: str) -> list[tuple[str, bool, dict[str, Any]]]:
    fence, only = (calls.FENCE, True, _FENCE), ("If-Match", False, _TAG)
    texts = [(name, False, _TEXT) for name in (calls.BROWSER, calls.CLIENT, calls.HOST)]
    match method:
        case "get":
            return [only]
        case "put":
            return [fence, (calls.DIGEST, True, _DIGEST), only, (calls.BACKEND, False, _BACKEND), *texts]
        case "delete":
            return [fence]
    return []


def _header(name: str, required: bool, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": schema}


def _about() -> dict[str, Any]:
    return {"ETag": _TAG, calls.MADE: {"type": "string"}, calls.BROWSER: _TEXT, calls.BACKEND: _BACKEND}


def _json(schemas: Schemas, kind: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schemas.of(kind)}}


def _refusals(method: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    retry_after = {"Retry-After": {"description": "Whole seconds.", "schema": {"type": "integer", "minimum": 1}}}
    reason = {calls.REASON: {"description": "none, deleted or stale", "schema": {"type": "string"}}}
    more = {"404": reason, "409": reason, "503": retry_after}
    found = sorted({**_EVERYWHERE, **_MORE[method]}.items())
    return {
        code: {"description": text, "content": content, **({"headers": more[code]} if code in more else {})}
        for code, text in found
    }
