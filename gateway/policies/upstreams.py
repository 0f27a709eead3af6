"""The sections `upstreams` and `console`. Durations are seconds."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from sluice.config import Secret, parsers, urls
from sluice.config.fields import Fields, Value, section, setting
from sluice.config.parsers import each, of
from sluice.config.problems import Malformed, quoted

CHECK_EVERY_AT_LEAST = 1.0
_PATH = re.compile(r"/[!-~]{0,1023}")
_UNIX = "unix:"
_MAX_SOCKET = 107  # bytes; sockaddr_un of Linux has 108, the last of which is 0


def _address(text: str) -> str:
    """Of one member: http, https, or HTTP over a unix socket."""
    if not text.startswith(_UNIX):
        return urls.http_url(text)
    path = text.removeprefix(_UNIX)
    if not path.startswith("/") or path.startswith("//"):
        raise Malformed(f"{quoted(text)} names no socket", "write unix:/run/laravel.sock")
    if not path.isprintable() or len(path.encode()) > _MAX_SOCKET:
        message = f"is over {_MAX_SOCKET} bytes, more than a unix socket may have"
        raise Malformed(message, "write a shorter path")
    return text


def _addresses(value: Value) -> tuple[str, ...]:
    if not value.items():
        raise Malformed("names no address", "write [http://127.0.0.1:8000, http://127.0.0.1:8001]")
    found: list[str] = []
    for item in value.items():
        address = item.attempt(of(_address), "")
        if address and address in found:
            item.note(Malformed(f"{quoted(address)} is there twice", "keep one"))
        elif found and _below(address) != _below(found[0]):
            cure = "write the same path in each, as they are one application"
            item.note(Malformed(f"{quoted(address)} has another path than {found[0]}", cure))
        found.append(address)
    return tuple(found)


def _below(address: str) -> str:
    """The path that stands before each target."""
    return "" if address.startswith(_UNIX) else urlsplit(address).path


def _path(text: str) -> str:
    if not _PATH.fullmatch(text) or "#" in text:
        raise Malformed(f"{quoted(text)} is not a path", "write /up")
    return text


def _every(value: Value) -> float:
    seconds = parsers.duration(value)
    if seconds < CHECK_EVERY_AT_LEAST:
        raise Malformed(f"{quoted(value.text())} is too often", "write 1s or more")
    return seconds


def _status(value: Value) -> int:
    value.takes({"type": "integer", "minimum": 500, "maximum": 599})
    text = value.text()
    if not re.fullmatch(r"5[0-9]{2}", text):
        raise Malformed(f"{quoted(text)} is not a status of 5xx", "write fails: [503]")
    return int(text)


def _authorities(value: Value) -> Secret:
    """Certificates in PEM."""
    found = parsers.secret_value(value)
    if found.reveal():
        try:
            ssl.create_default_context(cadata=found.reveal().decode())
        except (ssl.SSLError, ValueError):
            raise Malformed("has no certificate in it", "it is PEM: -----BEGIN CERTIFICATE-----") from None
    return found


@dataclass(frozen=True, slots=True)
class Health:
    """How each member is checked while nobody asks it."""

    path: str = setting(of(_path), "/up")
    """Answered with 2xx or 3xx by a member that is well."""
    every: float = setting(_every, 5.0)
    """Seconds from one check of a member to the next, 1s or more; one that is left out is checked each second."""


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    url: str = ""
    """The first of its addresses, or the only one."""
    connect: float = setting(parsers.duration, 1.0)
    """Seconds for name, TCP and TLS together."""
    headers: float = setting(parsers.duration, 30.0)
    """Seconds until the head of an answer has come."""
    idle: float = setting(parsers.duration, 60.0)
    """Seconds for which a body may pause."""
    connections: int = setting(parsers.count, 256)
    """The most that one gateway process opens to each address, WebSockets aside."""
    wait: float = setting(parsers.duration, 1.0)
    """Seconds that a request waits for one of them, then 503."""
    keep: float = setting(parsers.duration, 50.0)
    """Seconds for which an unused connection is kept: less than the upstream keeps it."""
    age: float = setting(parsers.duration, 300.0)
    """Seconds after which a connection is not used again, so that a change of its name's addresses is seen."""
    ca: Secret | None = setting(_authorities, None)
    """Certificates in PEM that https is trusted by, instead of the system's."""
    health: Health | None = setting(section(Health), None)
    """An active check of each member; without, requests find out."""
    fails: frozenset[int] = setting(lambda value: frozenset(each(_status)(value)), frozenset())
    """Statuses of 5xx that count as failures of the upstream, whoever wrote them."""
    urls: tuple[str, ...] = ()
    """All of its addresses, where there are several."""

    @property
    def members(self) -> tuple[str, ...]:
        """Its addresses."""
        return self.urls or (self.url,)


ABOUT = {
    "url": "http://, https://, or `unix:/run/laravel.sock`.",
    "urls": "In place of `url`, of one application: each request goes to the one with the fewest under way.",
}


def upstream(name: str, value: Value) -> Upstream:
    with value.fields(ABOUT) as fields:
        if "urls" in fields:
            members: tuple[str, ...] = fields.take("urls", _addresses, ())
            if "url" in fields:
                fields.wrong("url", Malformed("stands beside urls", "keep one of them"))
        else:
            members = (fields.need("url", of(_address), "", "url: http://127.0.0.1:8000"),)
        several = members if len(members) > 1 else ()
        found = fields.read(Upstream, name=name, url=members[0] if members else "", urls=several)
        _refuse_without_effect(found, fields)
        return found


def _refuse_without_effect(found: Upstream, fields: Fields) -> None:
    encrypted = any(url.lower().startswith("https:") for url in found.members)
    if found.ca is not None and not encrypted and fields.sound("ca", "url", "urls"):
        fields.wrong("ca", Malformed("is for https only", "write https:// in the address, or remove ca"))


@dataclass(frozen=True, slots=True)
class ConsolePolicy:
    token: Secret | None = setting(parsers.secret_value, None)
    """Opens the console and its API."""
    read: Secret | None = setting(parsers.secret_value, None)
    """Opens them for those who may look and change nothing."""
