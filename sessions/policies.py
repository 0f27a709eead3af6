"""The section `sessions` of `policies.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from sessions.keys import Key, Keys, WorkerKey
from sessions.lifecycle.policies import Cleanup, OnePhone, Rebalance, Watch, one_phone
from sessions.profiles.policies import VaultPolicy
from sessions.shields import Shields
from sessions.worker.policies import BrowserPolicy
from sluice.config import Listen, Signature, headers, parsers, references, urls
from sluice.config.fields import Fields, Value, section, setting
from sluice.config.listening import Listener
from sluice.config.model import Secret
from sluice.config.parsers import choice, each, of
from sluice.config.problems import Malformed, quoted

NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,64}")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,8}")
_RESERVED = "/_sluice"
_name = parsers.matching(NAME, "a name of a worker", "write 1 to 64 of A-Z a-z 0-9 . _ : [ ] -")


def is_within(path: str, prefix: str) -> bool:
    """Whether the path is the prefix or lies below it, segment by segment."""
    return path == prefix or path.startswith(f"{prefix}/")


def _prefix(text: str) -> str:
    if not text.startswith("/"):
        raise Malformed(f"{quoted(text)} does not begin with /", "write /w/w1")
    if text.endswith("/"):
        raise Malformed(f"{quoted(text)} ends with /", "write it without, such as /w/w1")
    if not _PREFIX.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/")):
        cure = "write 1 to 8 segments of at most 64 of A-Z a-z 0-9 . _ ~ -, such as /w/w1"
        raise Malformed(f"{quoted(text)} is no prefix of a path", cure)
    if is_within(text, _RESERVED):
        raise Malformed(f"{quoted(text)} is reserved for Sluice", "write another, such as /w/w1")
    return text


@dataclass(frozen=True, slots=True)
class ExistingWorker:
    """A worker service that we do not run and that knows nothing of us."""

    url: str = setting(of(urls.http_url), "", missing="url: http://127.0.0.1:3001")
    """Its address."""
    key: Secret | None = setting(parsers.secret_value, None)
    """None: it has none, and refuses every request that carries one."""
    key_in: Literal["field", "header"] = setting(choice("field", "header"), "field")
    """`field`: `api_key` in the query of GET, else in the body; `header`: X-API-Key."""
    name: str = setting(of(_name), "")
    """Its worker id, which no other has. Where none is written, host:port of its url."""
    prefix: str = setting(of(_prefix), "")
    """Of the path of all that it sends to us, by which it is known, such as `/w/w1`; empty: none."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", host_and_port(self.url))


def host_and_port(url: str) -> str:
    """`127.0.0.1:3001`; an IPv6 address in brackets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _workers(value: Value) -> tuple[ExistingWorker, ...]:
    known: list[tuple[str, ExistingWorker]] = []
    for item in value.items():
        worker = item.attempt(lambda entry: _worker(entry, known), None)
        if worker is not None:
            known.append((item.key, worker))
    return tuple(worker for _, worker in known)


def _worker(value: Value, before: list[tuple[str, ExistingWorker]]) -> ExistingWorker:
    """`before`: those above it, with their keys."""
    with value.fields() as fields:
        worker = fields.read(ExistingWorker)
        _check_key(worker, fields)
        if fields.sound("url", "name") and not NAME.fullmatch(worker.name):
            fields.wrong("url", Malformed(f"{quoted(worker.name)} is not a name of a worker", "add name: w1"))
        for key, other in before:
            if fields.sound("url", "name", "prefix"):
                _compare(worker, other, key, fields)
    return worker


def _check_key(worker: ExistingWorker, fields: Fields) -> None:
    if "key_in" in fields and "key" not in fields:
        fields.wrong("key_in", Malformed("does nothing without key", "add it or remove key_in"))
    if worker.key is None or not fields.sound("key", "key_in"):
        return
    try:
        _carried(worker.key, worker.key_in)
    except Malformed as malformed:
        fields.wrong("key", malformed)


def _carried(key: Secret, key_in: str) -> None:
    if key_in == "header":
        headers.carried(key)
    try:
        key.reveal().decode()
    except UnicodeDecodeError:
        raise Malformed("is not UTF-8", "write what JSON can carry") from None


def _compare(worker: ExistingWorker, other: ExistingWorker, key: str, fields: Fields) -> None:
    if _address(worker.url) == _address(other.url):
        fields.wrong("url", Malformed(f"{quoted(worker.url)} is that of {key}, too", "keep one of them"))
    elif worker.name == other.name:
        malformed = Malformed(f"{quoted(worker.name)} is the name of {key}", "give each worker its own, with name: w1")
        fields.wrong("name" if "name" in fields else "url", malformed)
    for outer, inner in ((worker.prefix, other.prefix), (other.prefix, worker.prefix)):
        if outer and is_within(inner, outer):
            message = f"{quoted(worker.prefix)} and {quoted(other.prefix)} of {key} cannot be told apart"
            fields.wrong("prefix", Malformed(message, "give each worker its own, such as /w/w1 and /w/w2"))
            return


def _address(url: str) -> tuple[str, str, str]:
    """What makes two urls the same: case of the host and a port that goes without saying do not."""
    parts = urlsplit(url)
    return parts.scheme, host_and_port(url), parts.path


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


PER_WORKER = 25


@dataclass(frozen=True, slots=True)
class SessionsPolicy:
    lease: float = setting(_lease, 15.0)
    """After so long without a beat a worker's sessions are given to others; 1s or more."""
    per_worker: int | None = setting(parsers.count, None)
    """Sessions of a worker at most. None: as many browsers as its memory holds, and 25 of all others."""
    workers: tuple[ExistingWorker, ...] = setting(_workers, ())
    """Existing worker services, which know nothing of Sluice; they are watched."""
    verify: str | None = setting(references.signature, None)
    """Name of the signature by which any worker may prove itself at `/_sluice/workers`."""
    keys: tuple[WorkerKey, ...] = setting(each(section(WorkerKey)), ())
    """The signatures by which only some of them may."""
    advertise: str | None = setting(of(_advertised), None)
    """The gateway's address as Laravel reaches it; webhooks tell Laravel this one instead of their worker's own."""
    shared_profiles: bool = setting(parsers.boolean, False)
    """Every worker finds every login on its disk, so that any of them can start any session."""
    one_phone: OnePhone = setting(one_phone, OnePhone())
    """Which of several connected sessions of one phone stays: the word alone, or a mapping."""
    cleanup: Cleanup | None = setting(section(Cleanup), None)
    """None: nothing is cleaned by itself."""
    rebalance: Rebalance | None = setting(section(Rebalance), None)
    """None: a session stays where it is, until its worker drains or is lost."""
    watch: Watch = setting(section(Watch), Watch())
    """After which time a session that runs counts as not well."""
    shields: Shields = setting(section(Shields), Shields())
    """What keeps existing workers and Laravel from harming each other; each can be switched off."""
    restore: float = setting(parsers.duration, 600.0)
    """For so long after an existing worker was started again its sessions count as being restored."""

    browser: BrowserPolicy | None = setting(section(BrowserPolicy), None)
    """Of workers that run sessions in browsers. None: `sluice up` starts none."""
    vault: VaultPolicy | None = setting(section(VaultPolicy), None)
    """Keeps logins, so that a session can open anywhere. None: logins stay on their machines."""

    @property
    def most(self) -> int:
        """Sessions of a worker that does not say by itself how many it takes."""
        return self.per_worker if self.per_worker is not None else PER_WORKER

    def keys_of(self, signatures: Mapping[str, Signature], listen: Sequence[Listener]) -> Keys:
        """By which workers prove themselves to a gateway that listens there. `verify`, the short form, may say all."""
        found = [Key(signatures[one.signature], one.ids, one.urls) for one in self.keys]
        if self.verify:
            found.append(Key(signatures[self.verify]))
        own = [one.address for one in listen if isinstance(one.address, Listen)]
        return Keys(found, {worker.name: worker.url for worker in self.workers}, own)


def sessions(value: Value) -> SessionsPolicy:
    with value.fields() as fields:
        found = fields.read(SessionsPolicy)
        if found.vault is not None and found.vault.verify is None:
            found = replace(found, vault=replace(found.vault, verify=found.verify))
        return found
