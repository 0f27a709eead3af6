"""The sections `upstreams` and `console`. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.config import Secret, parsers, urls
from sluice.config.fields import Value, setting
from sluice.config.parsers import of


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    url: str = setting(of(urls.http_url), "", missing="url: http://127.0.0.1:8000")
    connect: float = setting(parsers.duration, 1.0)
    headers: float = setting(parsers.duration, 30.0)
    idle: float = setting(parsers.duration, 60.0)


def upstream(name: str, value: Value) -> Upstream:
    with value.fields() as fields:
        return fields.read(Upstream, name=name)


@dataclass(frozen=True, slots=True)
class ConsolePolicy:
    token: Secret | None = setting(parsers.secret_value, None)
