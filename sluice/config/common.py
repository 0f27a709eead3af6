"""The sections that every room uses: `store` and `signatures`."""

from __future__ import annotations

import base64

from sluice.config import headers, parsers, units, urls
from sluice.config.fields import Fields, Value
from sluice.config.model import Preset, Secret, Signature, StorePolicy
from sluice.config.parsers import choice, each, of
from sluice.config.problems import Malformed, one_of

STORE = StorePolicy("embedded", "second", 0.25)
STALE_AFTER = 300.0
OPTIONS: dict[Preset, tuple[str, ...]] = {
    "blazz": ("tolerance",),
    "body-sha256": ("header", "prefix"),
    "dotted": ("tolerance", "header", "timestamp_header", "prefix"),
    "waha": (),
    "standard": ("tolerance",),
    "key": ("header", "prefix"),
}
"""What of a signature can be set, by its preset."""
SECRET = "secret: env:NAME or file:PATH"  # noqa: S105 - how one is named
WHSEC = b"whsec_"


def store(value: Value) -> StorePolicy:
    with value.fields() as fields:
        found = StorePolicy(
            url=fields.take("url", of(urls.store_url), STORE.url),
            promise=fields.take("promise", choice("memory", "second", "always", "replica"), STORE.promise),
            timeout=fields.take("timeout", of(units.duration), STORE.timeout),
        )
        if found.promise == "replica" and fields.sound("url", "promise"):
            _refuse_without_replica(found.url, fields)
        return found


def _refuse_without_replica(url: str, fields: Fields) -> None:
    if url == "embedded":
        cure = "set store.url to one of yours that has a replica, or write always"
        fields.wrong("promise", Malformed("the embedded store has no replica", cure))
    if url.startswith("redis+cluster:"):
        fields.wrong("promise", Malformed("a cluster does not tell what its replicas have", "write second or always"))


def signature(name: str, value: Value) -> Signature:
    with value.fields() as fields:
        preset: Preset = fields.take("preset", choice(*OPTIONS), "blazz")
        newest, *older = _secrets(fields, preset)
        found = Signature(
            name=name,
            preset=preset,
            secret=newest,
            tolerance=fields.take("tolerance", of(units.duration), STALE_AFTER),
            older=tuple(older),
            header=fields.take("header", of(headers.own_name), ""),
            timestamp_header=fields.take("timestamp_header", of(headers.own_name), ""),
            prefix=fields.take("prefix", of(headers.plain), None),
        )
        _refuse_without_effect(preset, fields)
        return found


def _secrets(fields: Fields, preset: Preset) -> tuple[Secret, ...]:
    if "secret" in fields and "secrets" in fields:
        fields.wrong("secrets", Malformed("stands beside secret", "keep one of them"))
    if "secrets" not in fields:
        return (fields.need("secret", lambda value: _secret(value, preset), Secret(b""), SECRET),)
    fields.take("secret", lambda value: _secret(value, preset), None)
    return fields.take("secrets", lambda value: _several(value, preset), ()) or (Secret(b""),)


def _several(value: Value, preset: Preset) -> tuple[Secret, ...]:
    if not value.items():
        raise Malformed("names no secret", "write [env:NEW, env:OLD], the newest first")
    return each(lambda item: _secret(item, preset))(value)


def _secret(value: Value, preset: Preset) -> Secret:
    found = parsers.secret_value(value)
    if not found.reveal():
        return found  # not there, and not needed now
    if preset == "standard":
        return _standard(found)
    if preset == "key":
        headers.carried(found)
    return found


def _standard(secret: Secret) -> Secret:
    """The bytes that a secret of Standard Webhooks stands for. Their base64 may come without its padding."""
    text = secret.reveal()
    try:
        key = base64.b64decode(text.removeprefix(WHSEC) + b"=" * (-len(text.removeprefix(WHSEC)) % 4), validate=True)
    except ValueError:
        key = b""
    if not text.startswith(WHSEC) or not 24 <= len(key) <= 64:
        raise Malformed("is no secret of Standard Webhooks", "it is whsec_ and 24 to 64 bytes in base64")
    return Secret(key)


def _refuse_without_effect(preset: Preset, fields: Fields) -> None:
    for option in ("tolerance", "header", "timestamp_header", "prefix"):
        if option in fields and option not in OPTIONS[preset] and fields.sound("preset", option):
            known = f"it takes {one_of(OPTIONS[preset])}" if OPTIONS[preset] else "it has no options"
            fields.wrong(option, Malformed(f"does nothing with preset {preset}", f"remove it; {known}"))
