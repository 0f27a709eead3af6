"""Which secrets may speak for which workers, and where those may be: `sessions.keys` and `sessions.verify`.

A signature proves that a call was made by who has the secret. What the call says of the worker still has to be what
that secret may say, or one worker could take another's place, and with it the sessions and what is sent to them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from sluice.config import Listen, Signature, parsers, references, urls
from sluice.config.fields import Value, setting
from sluice.config.parsers import each, of
from sluice.config.problems import Malformed, quoted
from sluice.http import addresses
from sluice.http.problem import Refusal
from sluice.process.addresses import leads_to

WORKER_ID = r"[A-Za-z0-9._:\[\]-]{1,128}"
"""What a worker may call itself. A space would end its name early in the store."""
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_GLOB = re.compile(r"[A-Za-z0-9._:\[\]*-]{1,128}")
_NETWORK = re.compile(r"(https?)://([0-9.]+|\[[0-9A-Fa-f:.]+\])(/[0-9]{1,3})")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """Where workers may be: at any port of a network, or at one address and in the paths below it."""

    written: str
    network: IPv4Network | IPv6Network | None = None

    def holds(self, url: str) -> bool:
        ours, theirs = urlsplit(self.written), urlsplit(url)
        if ours.scheme != theirs.scheme:
            return False
        if self.network is not None:
            host = theirs.hostname or ""
            return _is_address(host) and ip_address(host) in self.network
        same = (ours.hostname, port_of(ours)) == (theirs.hostname, port_of(theirs))
        return same and (theirs.path + "/").startswith(ours.path + "/")


def _place(text: str) -> Place:
    network = _NETWORK.fullmatch(text)
    if network is None:
        return Place(urls.http_url(text))
    try:
        return Place(text, ip_network(network[2].strip("[]") + network[3]))
    except ValueError:
        raise Malformed(f"{quoted(text)} is no network of addresses", "write http://10.0.0.0/24") from None


def _ids(value: Value) -> tuple[str, ...]:
    found = each(of(parsers.matching(_GLOB, "a worker's id", "write w1, or w2-* for many")))(value)
    if not value.items():
        raise Malformed("is empty, so the key speaks for nobody", "write [w1, w2-*]")
    return found


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """The secret of one worker or of some of them."""

    signature: str = setting(references.signature, "", missing="signature: workers")
    """Name of the signature with that secret."""
    ids: tuple[str, ...] = setting(_ids, (), missing="ids: [w1, w2-*]")
    """Worker ids that it may speak for; `*` stands for any rest."""
    urls: tuple[Place, ...] = setting(each(of(_place)), ())
    """Networks and addresses at which those may be; empty: anywhere."""


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, and what it may say. Empty `ids` and `urls`: anything."""

    signature: Signature
    ids: tuple[str, ...] = ()
    urls: tuple[Place, ...] = ()

    def speaks_for(self, worker: str) -> bool:
        return not self.ids or any(_matches(one, worker) for one in self.ids)

    def may_be_at(self, url: str) -> bool:
        return not self.urls or any(place.holds(url) for place in self.urls)


class Keys:
    """All of them. `existing`: the url of each existing worker by its name; `listen`: where the gateway itself is."""

    def __init__(self, keys: Sequence[Key], existing: Mapping[str, str], listen: Sequence[Listen] = ()) -> None:
        self.all = tuple(keys)
        self.written_at = "sessions.keys" if any(key.ids for key in keys) else "sessions.verify"
        self._existing = dict(existing)
        self._by_address = {_address(url): name for name, url in existing.items()}
        self._listen = listen

    def of(self, worker: str) -> tuple[Key, ...]:
        return tuple(key for key in self.all if key.speaks_for(worker))

    def refuse_registration(self, proven: Collection[Key], worker: str, url: str) -> None:
        """Raises Refusal unless what these keys have proven may be registered. `url` as `worker_url` answers it."""
        allowed = [key for key in proven if key.speaks_for(worker)]
        if not allowed:
            ids = ", ".join(dict.fromkeys(one for key in proven for one in key.ids))
            raise Refusal(403, f"this secret may speak for {ids}, not for {worker} (sessions.keys)")
        if not any(key.may_be_at(url) for key in allowed):
            places = ", ".join(dict.fromkeys(place.written for key in allowed for place in key.urls))
            raise Refusal(403, f"url: {worker} may be at {places}, not at {url} (sessions.keys)")
        if worker in self._existing:
            raise Refusal(
                409,
                f"{worker} is the name of an existing worker (sessions.workers); register under another id, or take "
                "that worker out of policies.yaml first",
            )
        if (name := self._by_address.get(_address(url))) is not None:
            raise Refusal(
                409,
                f"url: {url} is the existing worker {name} (sessions.workers); give your own worker another port, or "
                "take that worker out of policies.yaml first",
            )
        if any(leads_to(address, url) for address in self._listen):
            raise Refusal(400, f"url: {url} is this gateway itself; write where the gateway reaches the worker")


def worker_url(text: str) -> str:
    """The address of a worker, without the slash at its end. Raises Refusal 400."""
    try:
        url = urls.http_url(text)
        parts = urlsplit(url)
        host = parts.hostname or ""
        sound = url.isascii() and (_is_address(host) or _HOST.fullmatch(host) is not None)
    except Malformed as malformed:
        raise Refusal(400, f"url: {malformed.message}; {malformed.hint}") from None
    if not sound:
        raise Refusal(400, f"url: {quoted(text)} is not an http address; write http://10.0.0.5:3000")
    kind = strange(host) if addresses.is_literal(host) else None
    if kind:
        raise Refusal(400, f"url: {host} is no address of a worker ({kind}); write where the gateway reaches it")
    return url


def strange(address: str) -> addresses.Kind | None:
    """What kind of address it is at which no worker is; None: one may be there."""
    kind = addresses.kind_of(address)
    return None if kind in addresses.ALLOWED_AS_WRITTEN else kind


def port_of(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


def _address(url: str) -> tuple[str, int, str]:
    parts = urlsplit(url)
    return parts.hostname or "", port_of(parts), parts.path.rstrip("/")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _matches(glob: str, worker: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, glob.split("*"))), worker) is not None
