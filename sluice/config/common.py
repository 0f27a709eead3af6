"""The sections that every room uses: `store`, `signatures` and `log`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sluice.config import headers, parsers, urls
from sluice.config.fields import Fields, Value, section, setting
from sluice.config.model import Secret
from sluice.config.parsers import choice, each, of
from sluice.config.problems import Malformed, one_of

Promise = Literal["memory", "second", "always", "replica"]
Preset = Literal["blazz", "body-sha256", "dotted", "waha", "standard", "key"]
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
MIN_LOG, MAX_LOGS = 64 * 2**10, 1000


@dataclass(frozen=True, slots=True)
class StorePolicy:
    url: str = setting(of(urls.store_url), "embedded")
    """`embedded`, or `redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://`."""
    promise: Promise = setting(choice("memory", "second", "always", "replica"), "second")
    """What a 202 buys: in memory, on the disk within a second, on the disk at once, or on a replica as well."""
    timeout: float = setting(parsers.duration, 0.25)
    """The longest the limiter waits for the store before a limit's `when_store_away` decides."""


def _check_replica(store: StorePolicy, fields: Fields) -> None:
    if store.promise != "replica" or not fields.sound("url", "promise"):
        return
    if store.url == "embedded":
        cure = "set store.url to one of yours that has a replica, or write always"
        fields.wrong("promise", Malformed("the embedded store has no replica", cure))


store = section(StorePolicy, _check_replica)


@dataclass(frozen=True, slots=True)
class Signature:
    """`sluice.http.signatures` says what each preset signs, and how."""

    name: str
    preset: Preset
    secret: Secret
    """The newest; of preset `standard` the bytes that `whsec_` encodes."""
    tolerance: float = setting(parsers.duration, 300.0)
    """Seconds a signed timestamp may be off."""
    older: tuple[Secret, ...] = ()
    """Others that still prove a request while secrets are exchanged."""
    header: str = setting(of(headers.own_name), "")
    """Empty: the preset's own."""
    timestamp_header: str = setting(of(headers.own_name), "")
    """Where the time of signing stands, of preset `dotted`."""
    prefix: str | None = setting(of(headers.plain), None)
    """What stands before the proof in its header; not written: what is usual in that header."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (self.secret, *self.older)


SIGNATURE = {
    "preset": "Whose way of signing it is (docs/signatures.md).",
    "secret": "`env:NAME` or `file:PATH`.",
    "secrets": "In place of `secret`, while they are exchanged: signed with the first, verified with any.",
}


def signature(name: str, value: Value) -> Signature:
    with value.fields(SIGNATURE) as fields:
        preset: Preset = fields.take("preset", choice(*OPTIONS), "blazz")
        newest, *older = _secrets(fields, preset)
        found = fields.read(Signature, name=name, preset=preset, secret=newest, older=tuple(older))
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


def _log_size(value: Value) -> int:
    size: int = parsers.size(value)
    if size < MIN_LOG:
        raise Malformed(f"{value.text()} is too small for a log", f"write {MIN_LOG // 2**10}KiB or more")
    return size


def _log_files(value: Value) -> int:
    number = parsers.count(value)
    if number > MAX_LOGS:
        raise Malformed(f"{number} is too much", f"write {MAX_LOGS} or less")
    return number


_destination: Callable[[Value], Literal["files", "stdout"]] = choice("files", "stdout")


@dataclass(frozen=True, slots=True)
class LogPolicy:
    requests: Literal["json", "combined"] = setting(choice("json", "combined"), "json")
    """The form of the access log: JSON, between the other lines, or Apache's combined, in a file of its own."""
    size: int = setting(_log_size, 16 * 2**20)
    """Bytes of one file of a process; then a new one begins."""
    files: int = setting(_log_files, 2)
    """How many files are kept of each log, the newest included."""
    to: Literal["files", "stdout"] | None = setting(_destination, None)
    """Where every process logs to. Without it `sluice up` makes files, and a process that is started by itself logs to
    standard error."""


log = section(LogPolicy)
