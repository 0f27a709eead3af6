"""policies.yaml to `Policies`, or to everything that is wrong with it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.policies.contradictions import contradictions
from gateway.policies.limits import limit_list
from gateway.policies.model import BODIES, ConsolePolicy, LimitHeader, Policies
from gateway.policies.references import references
from gateway.policies.routes import route
from gateway.policies.trust import TRUST, trust
from gateway.policies.upstreams import console, upstream
from gateway.policies.warnings import warnings
from relay.policies.read import RELAY, relay
from sessions.policies import SESSIONS, sessions
from sluice.config import Listen, common, document, units
from sluice.config.fields import Fields, Reading, Value
from sluice.config.parsers import choice, each, named, of
from sluice.config.problems import Malformed, PolicyError, Problem, quoted
from sluice.config.written import written

VERSION = "1"
LISTEN = Listen("127.0.0.1", 8080)


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
    reading = Reading(path, environment, need_secrets, list(tree.problems))
    root = Value("", tree.root, reading)
    policies = _policies(root, hashlib.sha256(content).hexdigest()[:12])
    if not reading.problems:
        for place, malformed in contradictions(policies):
            root.at(*place).note(malformed)
    if reading.problems:
        raise PolicyError(reading.problems)
    found = tuple(warnings(policies, time.time()))
    return replace(policies, warnings=found, written=written(tree.root, reading.secrets))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        cure = "copy the default one, or name yours (--policies FILE, or sluice check FILE)"
        raise PolicyError([Problem(0, 0, "", "no such file", cure, str(path))]) from None
    except OSError as error:
        message = f"cannot be read ({(error.strerror or str(error)).lower()})"
        cure = "make it a readable file or name another with --policies FILE"
        raise PolicyError([Problem(0, 0, "", message, cure, str(path))]) from None


def _policies(root: Value, revision: str) -> Policies:
    known = references(root.node)
    with root.fields() as fields:
        _version(fields)
        fields.later("alerts")
        return Policies(
            source=root.reading.source,
            revision=revision,
            listen=fields.take("listen", of(units.listen), LISTEN),
            data=_folder(root, fields.take("data", of(_not_empty), ".sluice")),
            bodies=fields.take("bodies", of(units.size), BODIES),
            store=fields.take("store", common.store, common.STORE),
            trust=fields.take("trust", lambda value: trust(value, known), TRUST),
            upstreams=fields.take("upstreams", named(upstream), {}),
            signatures=fields.take("signatures", named(common.signature), {}),
            routes=fields.take("routes", each(lambda value: route(value, known)), ()),
            limits=fields.take("limits", lambda value: limit_list(value, known), ()),
            limit_headers=fields.take("limit_headers", _limit_headers, frozenset({"ratelimit"})),
            relay=fields.take("relay", lambda value: relay(value, known.signatures), RELAY),
            sessions=fields.take("sessions", lambda value: sessions(value, known.signatures), SESSIONS),
            console=fields.take("console", console, ConsolePolicy(None)),
        )


def _limit_headers(value: Value) -> frozenset[LimitHeader]:
    kind: Callable[[Value], LimitHeader] = choice("ratelimit", "x-ratelimit")
    return frozenset(each(kind)(value))


def _version(fields: Fields) -> None:
    fields.need("version", _known_version, VERSION, "version: 1 at the top")


def _known_version(value: Value) -> str:
    text = value.text()
    if value.tag != "int" or text != VERSION:
        raise Malformed(f"{quoted(text)} is not a version that is known here", "write version: 1")
    return text


def _folder(root: Value, text: str) -> Path:
    return (root.reading.source.parent / text).resolve()


def _not_empty(text: str) -> str:
    if not text or "\0" in text:
        raise Malformed(f"{quoted(text)} is not a folder", "write .sluice")
    return text
