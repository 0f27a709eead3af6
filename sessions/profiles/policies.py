"""The section `sessions.vault` of `policies.yaml`: where logins are kept, sealed with what, and how many of each.

It is read by every process at its start, so nothing here needs the libraries by which a vault works.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from sluice.config import parsers, references, urls
from sluice.config.fields import Value, setting
from sluice.config.model import Secret
from sluice.config.parsers import each, pattern
from sluice.config.problems import Malformed, quoted

MIN_KEY = 16
"""Bytes; a shorter one could be guessed."""
MAX_GENERATIONS = 20
MIN_EVERY = 60.0
"""Seconds: a snapshot reads the whole profile, and stops its browser for a moment."""
_PLACES = "write store, file:/srv/sluice-vault or s3://bucket/prefix"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._~/-]{1,512}")
_OPTIONS = ("endpoint", "region")
_KEY = "key: env:SLUICE_VAULT_KEY, with what openssl rand -hex 32 makes"


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path
    """Absolute."""

    def __str__(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    prefix: str = ""
    """Without slashes at its ends; empty: none."""
    endpoint: str = ""
    """Empty: that of AWS, or what `AWS_ENDPOINT_URL` says."""
    region: str = ""
    """Empty: what `AWS_REGION` says."""

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


Place = Literal["store"] | Folder | Bucket


def _place(value: Value) -> Place:
    """Never quoted where a password may stand in it."""
    value.takes(pattern("store|file:.+|s3://.+"))
    text = value.text()
    if text == "store":
        return "store"
    if text.startswith("file:"):
        return _folder(text, value.reading.source.parent)
    if text.startswith("s3:"):
        return _bucket(text)
    raise Malformed("is no place for a vault", _PLACES)


def _folder(text: str, beside: Path) -> Folder:
    name = text.removeprefix("file:")
    if name.startswith("//"):
        host, slash, rest = name[2:].partition("/")
        if host:
            cure = "write file:///srv/sluice-vault, or file:vault for one beside this file"
            raise Malformed(f"{quoted(text)} names a host, not a folder", cure)
        name = slash + rest
    if not name.strip("/") or "\0" in name:
        raise Malformed(f"{quoted(text)} names no folder", "write file:/srv/sluice-vault")
    path = (beside / name).resolve()
    if path.exists() and not path.is_dir():
        raise Malformed(f"{quoted(text)} is a file, not a folder", "write file:/srv/sluice-vault")
    return Folder(path)


def _bucket(text: str) -> Bucket:
    parts = urlsplit(text)
    if "@" in text:
        raise Malformed(
            "has a user or password in it",
            "write it without; credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if not parts.netloc or not text.startswith("s3://"):
        raise Malformed(f"{quoted(text)} names no bucket", "write s3://bucket/prefix")
    if not _BUCKET.fullmatch(parts.netloc) or parts.fragment or not text.isprintable() or " " in text:
        raise Malformed(f"{quoted(text)} is not the address of a bucket", "write s3://bucket/prefix")
    prefix = parts.path.strip("/")
    if prefix and not (_PREFIX.fullmatch(prefix) and {"", ".", ".."}.isdisjoint(prefix.split("/"))):
        cure = "write segments of A-Z a-z 0-9 . _ ~ - and one / between them"
        raise Malformed(f"{quoted(text)} has a prefix that is none", cure)
    options: dict[str, str] = {}
    for name, given in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _OPTIONS or name in options or not given:
            said = "is there twice" if name in options else "has no value" if name in _OPTIONS else "is not known here"
            raise Malformed(f"{quoted(name)} {said}", "write s3://bucket/prefix?endpoint=https://…&region=…")
        options[name] = urls.http_url(given) if name == "endpoint" else given
    return Bucket(parts.netloc, prefix, **options)


def _keys(value: Value) -> tuple[Secret, ...]:
    if not value.is_list:
        return (_key(value),)
    if not value.items():
        raise Malformed("names no key", "write [env:NEW, env:OLD], the newest first")
    return _different(value, each(_key)(value))


def _different(value: Value, keys: tuple[Secret, ...]) -> tuple[Secret, ...]:
    known = [key for key in keys if key.reveal()]
    if len(set(known)) < len(known):
        raise Malformed("names one key twice", "keep one of them")
    return keys


def _key(value: Value) -> Secret:
    found = parsers.secret_value(value)
    if 0 < len(found.reveal()) < MIN_KEY:  # one that is not there, and not needed now, is empty
        cure = "make one with openssl rand -hex 32"
        raise Malformed(f"the key has under {MIN_KEY} bytes and can be guessed", cure)
    return found


def _generations(value: Value) -> int:
    number = parsers.count(value)
    if number > MAX_GENERATIONS:
        raise Malformed(f"{number} is too much", f"write {MAX_GENERATIONS} or less")
    return number


def _every(value: Value) -> float:
    seconds = parsers.duration(value)
    if seconds < MIN_EVERY:
        cure = "write 1m or more: each time the whole profile is read"
        raise Malformed(f"{quoted(value.text())} is too short", cure)
    return seconds


@dataclass(frozen=True, slots=True)
class VaultPolicy:
    place: Place = setting(_place, "store", name="url")
    """Where the chunks of profiles lie: `store`, `file:FOLDER` or `s3://bucket/prefix?endpoint=…&region=…`."""
    keys: tuple[Secret, ...] = setting(_keys, (), name="key", missing=_KEY)
    """Or a list of them: the first one seals, all of them open."""
    generations: int = setting(_generations, 3)
    """How many of each session are kept."""
    every: float = setting(_every, 600.0)
    """How often a running session is saved at least; one that is older than three times that is told of."""
    verify: str | None = setting(references.signature, None)
    """Name of the signature by which workers prove themselves at `/_sluice/vault`; in the file it may be left out for
    that of `sessions.verify`. None: no worker can."""

    @property
    def secrets(self) -> list[bytes]:
        return [key.reveal() for key in self.keys]

    @property
    def late(self) -> float:
        """Seconds after which a session that runs should have been saved."""
        return 3 * self.every
