"""The section `sessions` of `policies.yaml`."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.config import parsers, units, urls
from sluice.config.fields import Value
from sluice.config.model import Secret
from sluice.config.parsers import each, of
from sluice.config.problems import Malformed, quoted
from sluice.config.references import Defined


@dataclass(frozen=True, slots=True)
class ExistingWorker:
    """A worker service that we do not run and that knows nothing of us."""

    url: str
    key: Secret | None


@dataclass(frozen=True, slots=True)
class SessionsPolicy:
    lease: float
    per_worker: int
    workers: tuple[ExistingWorker, ...]
    verify: str | None
    """Name of the signature by which a worker proves itself at `/_sluice/workers`."""


SESSIONS = SessionsPolicy(lease=15.0, per_worker=25, workers=(), verify=None)


def sessions(value: Value, signatures: Defined) -> SessionsPolicy:
    with value.fields() as fields:
        fields.later("one_phone", "cleanup", "vault", "browser")
        return SessionsPolicy(
            lease=fields.take("lease", of(lease), SESSIONS.lease),
            per_worker=fields.take("per_worker", parsers.count, SESSIONS.per_worker),
            workers=fields.take("workers", each(_worker), ()),
            verify=fields.take("verify", signatures.one, None),
        )


def lease(text: str) -> float:
    """Renewed each third of it: a shorter one would be lost to a pause of the garbage collector."""
    seconds = units.duration(text)
    if seconds < 1:
        raise Malformed(f"{quoted(text)} is too short", "write 1s or more")
    return seconds


def _worker(value: Value) -> ExistingWorker:
    with value.fields() as fields:
        return ExistingWorker(
            url=fields.need("url", of(urls.http_url), "", "url: http://127.0.0.1:3001"),
            key=fields.take("key", parsers.secret_value, None),
        )
