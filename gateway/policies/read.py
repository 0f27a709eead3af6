"""policies.yaml to `Policies`, or to everything that is wrong with it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gateway.policies.admin import joined
from gateway.policies.applicability import queues_sends
from gateway.policies.contradictions import contradictions
from gateway.policies.model import Policies
from gateway.policies.warnings import warnings
from relay.policies import OF_SENDS, OUTBOX, shielded
from sluice.config import document
from sluice.config.fields import Reading, Value
from sluice.config.problems import Malformed, PolicyError, Problem, quoted
from sluice.config.written import written

VERSION = "1"


def load(
    path: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    need_secrets: bool = True,
    content: bytes | None = None,
) -> Policies:
    """Raises PolicyError with all problems. Without `need_secrets` a secret that is not there is an empty one.
    `content`: what to read instead of the file, as if it stood there.
    """
    content = _content(path) if content is None else content
    tree = document.parse(content, str(path))
    if tree.root is None:
        raise PolicyError(tree.problems)
    reading = Reading(path, tree.root, environment, need_secrets, list(tree.problems))
    root = Value("", tree.root, reading)
    policies = policies_from(root, hashlib.sha256(content).hexdigest()[:12])
    if not reading.problems:
        for place, malformed in contradictions(policies):
            root.at(*place).note(malformed)
    if reading.problems:
        raise PolicyError(reading.problems)
    policies = replace(policies, written=written(tree.root, reading.secrets))
    return replace(policies, warnings=tuple(warnings(policies, time.time())))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        cure = "write one with sluice init, or name yours (--policies FILE, or sluice check FILE)"
        raise PolicyError([Problem(0, 0, "", "no such file", cure, str(path))]) from None
    except OSError as error:
        message = f"cannot be read ({(error.strerror or str(error)).lower()})"
        cure = "make it a readable file or name another with --policies FILE"
        raise PolicyError([Problem(0, 0, "", message, cure, str(path))]) from None


def policies_from(root: Value, revision: str) -> Policies:
    """What the keys say; what is wrong with them is noted in the reading."""
    with root.fields({"version": "Of the form of this file."}) as fields:
        fields.need("version", _known_version, VERSION, "version: 1 at the top")
        found = fields.read(Policies, source=root.reading.source, revision=revision)
        if found.sessions.workers and found.sessions.shields.events:
            found = replace(found, relay=shielded(found.relay))
        if any(queues_sends(limit, route) for limit in found.limits for route in found.routes):
            endpoints = {**found.relay.endpoints, OUTBOX: OF_SENDS}
            found = replace(found, relay=replace(found.relay, endpoints=endpoints))
        lists = found.trust.lists
        if found.admin.allowed <= lists.keys():
            found = replace(found, admin=joined(found.admin, lists))
        return replace(found, data=(found.source.parent / found.data).resolve())


def _known_version(value: Value) -> str:
    value.takes({"const": int(VERSION)})
    text = value.text()
    if value.tag != "int" or text != VERSION:
        raise Malformed(f"{quoted(text)} is not a version that is known here", "write version: 1")
    return text
