"""The section `sessions` of `policies.yaml`."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.config import parsers, references, urls
from sluice.config.fields import Value, section, setting
from sluice.config.model import Secret
from sluice.config.parsers import each, of
from sluice.config.problems import Malformed, quoted


@dataclass(frozen=True, slots=True)
class ExistingWorker:
    """A worker service that we do not run and that knows nothing of us."""

    url: str = setting(of(urls.http_url), "", missing="url: http://127.0.0.1:3001")
    key: Secret | None = setting(parsers.secret_value, None)


def _lease(value: Value) -> float:
    """Renewed each third of it: a shorter one would be lost to a pause of the garbage collector."""
    seconds = parsers.duration(value)
    if seconds < 1:
        raise Malformed(f"{quoted(value.text())} is too short", "write 1s or more")
    return seconds


@dataclass(frozen=True, slots=True)
class SessionsPolicy:
    lease: float = setting(_lease, 15.0)
    per_worker: int = setting(parsers.count, 25)
    workers: tuple[ExistingWorker, ...] = setting(each(section(ExistingWorker)), ())
    verify: str | None = setting(references.signature, None)
    """Name of the signature by which a worker proves itself at `/_sluice/workers`."""


def sessions(value: Value) -> SessionsPolicy:
    with value.fields() as fields:
        fields.later("one_phone", "cleanup", "vault", "browser")
        return fields.read(SessionsPolicy)
