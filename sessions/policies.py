"""The section `sessions` of `policies.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from sessions.shields import Shields
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


def _advertised(text: str) -> str:
    """Laravel's service client drops the path of what it is told, and every machine is itself at 0.0.0.0."""
    url = urls.http_url(text)
    parts = urlsplit(url)
    if parts.path:
        raise Malformed(f"{quoted(text)} has a path, which Laravel leaves out", "write scheme, host and port only")
    if parts.hostname in ("0.0.0.0", "::") or not url.isascii():
        raise Malformed(f"{quoted(text)} is no address that can be called", "write http://127.0.0.1:8080")
    return url


@dataclass(frozen=True, slots=True)
class SessionsPolicy:
    lease: float = setting(_lease, 15.0)
    per_worker: int = setting(parsers.count, 25)
    workers: tuple[ExistingWorker, ...] = setting(each(section(ExistingWorker)), ())
    verify: str | None = setting(references.signature, None)
    """Name of the signature by which a worker proves itself at `/_sluice/workers`."""
    advertise: str | None = setting(of(_advertised), None)
    """The gateway's address as Laravel reaches it; webhooks tell Laravel this one instead of their worker's own."""
    shared_profiles: bool = setting(parsers.boolean, False)
    """Every worker finds every login on its disk, so that any of them can start any session."""
    shields: Shields = setting(section(Shields), Shields())


def sessions(value: Value) -> SessionsPolicy:
    with value.fields() as fields:
        fields.later("one_phone", "cleanup", "vault", "browser")
        return fields.read(SessionsPolicy)
