"""The audit log: one line of JSON in `<data>/logs/audit.jsonl` for every change that a person has made.

    {"at": "…Z", "who": "console.token", "from": "203.0.113.7", "through": "api", "action": "hold_circuit",
     "request": {"endpoint": "laravel", "hold": "open"}, "result": {"changed": true}}

What a gateway does to sessions by itself is there, too (`gateway/lifecycle.py`).

A change that ended in an exception has `error` instead of `result`: some of it may have been done. What was refused
has changed nothing, and has no line; nor has a dry run. Who was shown the QR code of a session has one, too, as he
could link a phone by it: once in ten minutes, however often a page asks. No secret of the policies is ever in a line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from gateway.policies import Policies
from sluice.console.actions.deployment import Deployment, Problem
from sluice.console.operations import D, Operation, Q, R
from sluice.http.decode import encode
from sluice.observe.audit_file import append, path_in
from sluice.process.cache import Latest

_LOCK_TIMEOUT = 1.0  # seconds
_AGAIN = 600.0
"""Seconds after which it is written once more that somebody is shown the same."""
_READERS = 128 * 1024  # bytes


class Readers:
    """Who was shown what lately, by one gateway process."""

    def __init__(self) -> None:
        self._known: Latest[bytes, float] = Latest(_READERS)

    def is_new(self, shown: bytes) -> bool:
        """And it is not any more."""
        now, before = time.monotonic(), self._known.get(shown)
        if before is not None and now - before < _AGAIN:
            return False
        self._known.keep(shown, now, len(shown))
        return True


@dataclass(frozen=True, slots=True)
class Actor:
    """`who`: the name of a token, or the user of the operating system; `place`: an address, or a host."""

    who: str
    place: str
    through: Literal["api", "page", "command line"]


async def perform(
    operation: Operation[D, Q, R],
    deployment: D,
    request: Q,
    actor: Actor,
    on_failure: Callable[[str, bytes], None],
    readers: Readers | None = None,
) -> R | Problem:
    """Runs it and, where it is a change, writes it into the audit log; and who was shown what he can act by, unless
    `readers` know it already.

    What is done is done when the log cannot be written: then `on_failure` is given the reason and the line.
    Raises StoreAway or StoreRefused.
    """
    if not operation.changes or getattr(request, "dry_run", False):
        seen = await operation.run(deployment, request)
        if operation.reveals is not None and not isinstance(seen, Problem) and operation.reveals(seen):
            about = encode([operation.id, request, actor])
            if readers is None or readers.is_new(about):
                await _write(deployment, _line(deployment, operation.id, request, actor, seen), on_failure)
        return seen
    outcome: R | Problem | BaseException
    try:
        outcome = await operation.run(deployment, request)
    except BaseException as error:
        await _write(deployment, _line(deployment, operation.id, request, actor, error), on_failure)
        raise
    if not isinstance(outcome, Problem):
        await _write(deployment, _line(deployment, operation.id, request, actor, outcome), on_failure)
    return outcome


def _line(deployment: Deployment, action: str, request: object, actor: Actor, outcome: object) -> bytes:
    secrets = _secrets(deployment.policies)
    failed = isinstance(outcome, BaseException)
    error = _masked(str(outcome) or type(outcome).__name__, secrets)
    result = {"error": error} if failed else {"result": _scalars(outcome)}
    line = {
        "at": datetime.now(UTC),
        "who": actor.who,
        "from": actor.place,
        "through": actor.through,
        "action": action,
        "request": {name: _masked(value, secrets) for name, value in _given(request).items()},
        **result,
    }
    return encode(line) + b"\n"


def _given(request: Any) -> dict[str, Any]:
    values = {field.name: getattr(request, field.name) for field in fields(request)}
    defaults = {field.name: field.default for field in fields(request) if field.default is not MISSING}
    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def _scalars(result: Any) -> dict[str, Any]:
    values = ((field.name, getattr(result, field.name)) for field in fields(result))
    return {name: value for name, value in values if isinstance(value, bool | int | datetime)}


def _secrets(policies: Policies) -> list[str]:
    """Every one that the file names, and the store's password; the longest first, as one may hold another."""
    found = [one.secret.reveal().decode("utf-8", "replace") for one in policies.written.values() if one.secret]
    texts = [text for several in found for text in several.split("\0")] + [urlsplit(policies.store.url).password or ""]
    return sorted(filter(None, texts), key=len, reverse=True)


def _masked(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, tuple):
        return [_masked(one, secrets) for one in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
    return value


async def _write(deployment: Deployment, line: bytes, on_failure: Callable[[str, bytes], None]) -> None:
    path = path_of(deployment.policies)
    try:
        await asyncio.to_thread(append, path, line, deployment.policies.log)
    except OSError as error:
        on_failure(f"{path} cannot be written ({(error.strerror or str(error)).lower()})", line)


def path_of(policies: Policies) -> Path:
    return path_in(policies.data)
