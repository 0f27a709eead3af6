"""The addresses at which a gateway answers: one, a list of them, or entries by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sluice.config import parsers, references, units
from sluice.config.fields import TEXT, Fields, Value
from sluice.config.model import Listen
from sluice.config.parsers import of
from sluice.config.problems import Malformed, quoted

ADDRESS = "write 127.0.0.1:8080, [::1]:8080 or unix:/run/sluice.sock"
UNIX = "unix:"
EVERYWHERE = ("0.0.0.0", "::")
LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}|::1|localhost")
_MODE = re.compile(r"0?[0-7]{3}")
_MAX_PATH = 107
"""Bytes of a unix socket's address (unix(7)), without the zero at its end."""


@dataclass(frozen=True, slots=True)
class UnixSocket:
    path: Path
    """Absolute."""
    mode: int = 0o660

    def __str__(self) -> str:
        return f"{UNIX}{self.path}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files, absolute. The certificate's may hold those of its issuers behind it."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Listener:
    """`name`: where none is given, the address itself."""

    name: str
    address: Listen | UnixSocket
    tls: TlsFiles | None = None

    def __str__(self) -> str:
        named = "" if self.name == str(self.address) else f"{self.name} "
        return f"{named}{self.address}{' (TLS)' if self.tls else ''}"

    @property
    def is_local(self) -> bool:
        """Only this machine reaches it."""
        return isinstance(self.address, UnixSocket) or LOOPBACK.fullmatch(self.address.host) is not None


def at(address: Listen | UnixSocket) -> Listener:
    return Listener(str(address), address)


def listeners(value: Value) -> tuple[Listener, ...]:
    """One address, a list, or a mapping from names; an entry is an address, or a mapping with one."""
    found: list[tuple[Value, Listener]] = []
    for entry, name in _entries(value, found):
        one = entry.attempt(partial(_listener, name), None)
        if one is not None:
            _note_conflicts(entry, one, found)
            found.append((entry, one))
    if not found and (value.is_list or value.is_mapping) and not _has_entries(value):
        raise Malformed("is empty, so nobody could ask", "write 127.0.0.1:8080")
    return tuple(one for _, one in found)


ABOUT = {
    "address": "`127.0.0.1:8080`, `[::1]:8080` or `unix:/run/sluice.sock`.",
    "cert": "PEM, read again when it changes: TLS 1.2 or newer.",
    "key": "PEM, of `cert`.",
    "mode": "Of a unix socket; 0660 where nothing is written.",
}


def _entries(value: Value, found: list[tuple[Value, Listener]]) -> Iterator[tuple[Value, str]]:
    """Each with its name, or without; a single mapping goes into `found` itself."""
    if value.is_list:
        yield from ((item, "") for item in value.items())
    elif value.is_mapping:
        with value.fields(ABOUT) as fields:
            if "address" in fields:
                found.append((value, _declared("", fields)))
                return
            for written, entry in fields.named():
                yield entry, written.attempt(of(parsers.name), "")
    else:
        found.append((value, _listener("", value)))


def _has_entries(value: Value) -> bool:
    return bool(value.node.value)


def _listener(name: str, value: Value) -> Listener:
    if not value.is_mapping:
        address = _address(value)
        return Listener(name or str(address), address)
    with value.fields(ABOUT) as fields:
        return _declared(name, fields)


def _declared(name: str, fields: Fields) -> Listener:
    nowhere: Listen | UnixSocket = Listen("127.0.0.1", 0)
    address = fields.need("address", _address, nowhere, "address: 127.0.0.1:8080")
    cert, key = fields.take("cert", _file, None), fields.take("key", _file, None)
    mode = fields.take("mode", of(_mode), None)
    for given, other in (("cert", "key"), ("key", "cert")):
        if given in fields and other not in fields and fields.sound(given):
            example = "file:tls.key" if other == "key" else "file:tls.crt"
            fields.wrong(given, Malformed(f"has no {other}", f"write {other}: {example} beside it"))
    if mode is not None and isinstance(address, UnixSocket):
        address = replace(address, mode=mode)
    elif mode is not None and fields.sound("address", "mode"):
        fields.wrong("mode", Malformed("is for unix sockets", "remove it"))
    return Listener(name or str(address), address, TlsFiles(cert, key) if cert and key else None)


def _address(value: Value) -> Listen | UnixSocket:
    value.takes(TEXT)
    text = value.text()
    if not text.startswith(UNIX):
        try:
            return units.listen(text)
        except Malformed as malformed:
            raise Malformed(malformed.message, ADDRESS) from None
    written = text.removeprefix(UNIX)
    written = written.removeprefix("//") if written.startswith("///") else written
    if not written.strip("/") or written.startswith("//") or not written.isprintable():
        raise Malformed(f"{quoted(text)} names no socket", "write unix:/run/sluice.sock")
    path = Path(os.path.abspath(value.reading.source.parent / written))
    if len(os.fsencode(path)) > _MAX_PATH:
        message = f"{quoted(text)} is longer than the {_MAX_PATH} bytes of a unix socket's address"
        raise Malformed(message, "write a shorter path")
    return UnixSocket(path)


def _file(value: Value) -> Path:
    value.takes(parsers.pattern("file:.+"))
    text = value.text()
    if not text.startswith("file:") or not text.removeprefix("file:") or not text.isprintable():
        raise Malformed(f"{quoted(text)} names no file", "write file:tls.crt")
    return Path(os.path.abspath(value.reading.source.parent / text.removeprefix("file:")))


def _mode(text: str) -> int:
    if not _MODE.fullmatch(text):
        raise Malformed(f"{quoted(text)} is not the mode of a file", "write 0660")
    return int(text, 8)


# --- beside each other


def conflict(one: Listener, others: Sequence[Listener]) -> Malformed | None:
    """Why this one cannot be listened on beside the others."""
    for other in others:
        if str(one.address) == str(other.address) and not _is_any_port(one.address):
            return Malformed(f"{one.address} is there twice", "keep one of them")
        if one.name == other.name:
            return Malformed(f"{quoted(one.name)} is there twice", "keep one of them")
        if isinstance(one.address, Listen) and isinstance(other.address, Listen):
            inner, outer = one.address, other.address
            if inner.host in EVERYWHERE:
                inner, outer = outer, inner
            if inner.port == outer.port != 0 and outer.host in EVERYWHERE and _is_ipv6(inner) == _is_ipv6(outer):
                return Malformed(f"{inner} is within {outer}", "keep one of them")
    return None


def _note_conflicts(entry: Value, one: Listener, found: Sequence[tuple[Value, Listener]]) -> None:
    malformed = conflict(one, [other for _, other in found])
    if malformed is not None:
        entry.note(malformed)


def _is_any_port(address: Listen | UnixSocket) -> bool:
    return isinstance(address, Listen) and address.port == 0


def _is_ipv6(address: Listen) -> bool:
    return ":" in address.host


# --- by name


def on(value: Value) -> tuple[str, ...]:
    """One name of an entry of `listen`, or a list of them."""
    if not value.is_list:
        return (_name_in_use(value),)
    if not value.items():
        raise Malformed("names no listener", "write on: public, or leave it out for all of them")
    names: list[str] = []
    for item in value.items():
        name = item.attempt(_name_in_use, "")
        if name and name in names:
            item.note(Malformed(f"{quoted(name)} is there twice", "keep one"))
        names.append(name)
    return tuple(names)


def _name_in_use(value: Value) -> str:
    names = references.names_in(value.reading.root, "listen")
    if not names or "address" in names:
        text = value.text()
        raise Malformed(f"no listener is called {quoted(text)}", f"name it: listen: {{{text[:32]}: 127.0.0.1:3000}}")
    return references.one_of_section("listener", "listen")(value)
