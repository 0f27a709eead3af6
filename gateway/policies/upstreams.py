"""The sections `upstreams` and `console`."""

from __future__ import annotations

from gateway.policies.model import ConsolePolicy, Upstream
from sluice.config import parsers, units, urls
from sluice.config.fields import Value
from sluice.config.parsers import of


def upstream(name: str, value: Value) -> Upstream:
    with value.fields() as fields:
        return Upstream(
            name=name,
            url=fields.need("url", of(urls.http_url), "", "url: http://127.0.0.1:8000"),
            connect=fields.take("connect", of(units.duration), 1.0),
            headers=fields.take("headers", of(units.duration), 30.0),
            idle=fields.take("idle", of(units.duration), 60.0),
        )


def console(value: Value) -> ConsolePolicy:
    with value.fields() as fields:
        return ConsolePolicy(fields.take("token", parsers.secret_value, None))
