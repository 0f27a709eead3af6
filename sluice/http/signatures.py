"""Signatures on webhooks, in and out: what each preset sends, and what it asks for.

    blazz        X-HMAC-Signature: hex HMAC-SHA256(time body), no separator; X-Timestamp in seconds. As the existing
                 workers make it and Laravel checks it (webhookNotifier.js, VerifyWhatsAppHmac.php)
    body-sha256  X-Hub-Signature-256: sha256=hex HMAC-SHA256(body). Meta, GitHub, gowa; under other headers waxum,
                 OpenWA and spatie/laravel-webhook-client. No time in it: what was once sent can be sent again
    dotted       X-WhatsApp-Signature: hex HMAC-SHA256(time.body); X-WhatsApp-Timestamp in seconds
    waha         X-Webhook-Hmac: hex HMAC-SHA512(body), with the algorithm, an id and the time in milliseconds beside
                 it; the time is not signed, so nobody looks at it (waha.devlike.pro, "Events")
    standard     Webhook-Signature: v1,base64 HMAC-SHA256(id.time.body), one for each secret, between single blanks;
                 Webhook-Id, Webhook-Timestamp in seconds (standardwebhooks.com, 1.0.0)
    key          X-Api-Key: the secret itself

The bytes that are signed are the bytes that are sent. Each attempt is signed anew: a signature older than the
receiver's tolerance would be refused for ever. While secrets are exchanged, any of them proves a request; ours are
signed with the first, by `standard` with all of them.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from sluice.config import Signature

Headers = Iterable[tuple[bytes, bytes]]
Pairs = list[tuple[bytes, bytes]]
Claim = tuple[bytes, ...]
"""The values of the headers of a proof, as its preset needs them: known before the body is."""

AGEING: Final = frozenset(
    (
        *(b"x-hmac-signature", b"x-timestamp"),
        *(b"x-whatsapp-signature", b"x-whatsapp-timestamp"),
        *(b"webhook-signature", b"webhook-timestamp"),
    )
)
"""Headers of proofs with a time in them: of no use to anybody who is sent them later."""
_PREFIXES: Final = {b"x-hub-signature-256": b"sha256=", b"x-openwa-signature": b"sha256=", b"authorization": b"Bearer "}
_ALGORITHMS = (b"sha256=", b"v1=")


class Proof(Protocol):
    """A preset with its secrets, ready for many requests."""

    @property
    def names(self) -> frozenset[bytes]:
        """The headers it makes, in lower case."""

    @property
    def repeats_within(self) -> float:
        """Seconds in which the first part of a claim, the signature, can prove the same bytes again: the time that it
        covers may be off by the tolerance both ways. 0: it covers no time, or an id as well."""

    def sign(self, body: bytes, now: float, event_id: bytes) -> Pairs:
        """The headers that prove `body` at `now` (unix seconds)."""

    def claim(self, headers: Headers, now: float) -> Claim | str:
        """What the headers say they prove a body with; a text, for the sender, where no body can be proven by them:
        one is missing, or the time is too far off."""

    def refusal(self, claim: Claim, body: bytes) -> str | None:
        """Why the claim does not prove `body`, in words for the sender; None when it does."""


def sign(signature: Signature, body: bytes, now: float, event_id: bytes | None = None) -> Pairs:
    """The headers that prove `body` at `now` (unix seconds). `event_id`: the same at each attempt."""
    return proof_of(signature).sign(body, now, event_id or b"msg_" + secrets.token_hex(12).encode())


def refusal(signature: Signature, headers: Headers, body: bytes, now: float) -> str | None:
    """Why these headers do not prove `body`, in words for the sender; None when they do.

    Names are compared without regard to case, proofs in constant time.
    """
    proof = proof_of(signature)
    claim = proof.claim(headers, now)
    return claim if isinstance(claim, str) else proof.refusal(claim, body)


@lru_cache(maxsize=256)
def proof_of(signature: Signature) -> Proof:
    match signature.preset:
        case "blazz":
            return _Stamped(signature, b"X-HMAC-Signature", b"X-Timestamp", between=b"")
        case "dotted":
            return _Stamped(signature, b"X-WhatsApp-Signature", b"X-WhatsApp-Timestamp", between=b".")
        case "body-sha256":
            return _OverBody(signature)
        case "waha":
            return _Waha(signature)
        case "standard":
            return _Standard(signature)
        case "key":
            return _Key(signature)


class _Stamped:
    """The time and the body, signed together."""

    def __init__(self, signature: Signature, header: bytes, timestamp: bytes, *, between: bytes) -> None:
        self._header = signature.header.encode() or header
        self._timestamp = signature.timestamp_header.encode() or timestamp
        self._between = between
        self._prefix = _prefix(signature, self._header)
        self._keys = _Keys(signature)
        self._tolerance = signature.tolerance
        self.names = frozenset((self._header.lower(), self._timestamp.lower()))
        self.repeats_within = 2 * signature.tolerance

    def sign(self, body: bytes, now: float, event_id: bytes) -> Pairs:
        timestamp = b"%d" % now
        digest = self._keys.first.hex(timestamp + self._between, body)
        return [(self._header, self._prefix + digest), (self._timestamp, timestamp)]

    def claim(self, headers: Headers, now: float) -> Claim | str:
        given, timestamp = only(headers, self._header, self._timestamp)
        if given is None or timestamp is None:
            return f"the headers {_shown(self._header)} and {_shown(self._timestamp)} must both be there, once"
        late = why_late(_shown(self._timestamp), timestamp, now, self._tolerance)
        return (_bare(given, self._prefix), timestamp + self._between) if late is None else late

    def refusal(self, claim: Claim, body: bytes) -> str | None:
        return None if self._keys.prove(claim[0], claim[1], body) else _mismatch(self._header)


class _OverBody:
    """The body alone, signed."""

    repeats_within = 0.0

    def __init__(self, signature: Signature) -> None:
        self._header = signature.header.encode() or b"X-Hub-Signature-256"
        self._prefix = _prefix(signature, self._header)
        self._keys = _Keys(signature)
        self.names = frozenset((self._header.lower(),))

    def sign(self, body: bytes, now: float, event_id: bytes) -> Pairs:
        return [(self._header, self._prefix + self._keys.first.hex(b"", body))]

    def claim(self, headers: Headers, now: float) -> Claim | str:
        (given,) = only(headers, self._header)
        return _absent(self._header) if given is None else (_bare(given, self._prefix),)

    def refusal(self, claim: Claim, body: bytes) -> str | None:
        return None if self._keys.prove(claim[0], b"", body) else _mismatch(self._header)


class _Waha:
    """The body alone, signed with SHA-512; what stands beside it is not."""

    repeats_within = 0.0

    def __init__(self, signature: Signature) -> None:
        self._keys = _Keys(signature, "sha512")
        self.names = frozenset(
            (b"x-webhook-hmac", b"x-webhook-hmac-algorithm", b"x-webhook-request-id", b"x-webhook-timestamp")
        )

    def sign(self, body: bytes, now: float, event_id: bytes) -> Pairs:
        return [
            (b"X-Webhook-Hmac", self._keys.first.hex(b"", body)),
            (b"X-Webhook-Hmac-Algorithm", b"sha512"),
            (b"X-Webhook-Request-Id", event_id),
            (b"X-Webhook-Timestamp", b"%d" % (now * 1000)),
        ]

    def claim(self, headers: Headers, now: float) -> Claim | str:
        given, algorithm = only(headers, b"X-Webhook-Hmac", b"X-Webhook-Hmac-Algorithm")
        if given is None:
            return _absent(b"X-Webhook-Hmac")
        if algorithm is not None and algorithm.lower() != b"sha512":
            return "X-Webhook-Hmac-Algorithm is not sha512, the one that is known here"
        return (given.lower(),)

    def refusal(self, claim: Claim, body: bytes) -> str | None:
        return None if self._keys.prove(claim[0], b"", body) else _mismatch(b"X-Webhook-Hmac")


class _Standard:
    """Id, time and body, signed together, once with each secret."""

    repeats_within = 0.0

    def __init__(self, signature: Signature) -> None:
        self._keys = _Keys(signature)
        self._tolerance = signature.tolerance
        self.names = frozenset((b"webhook-id", b"webhook-timestamp", b"webhook-signature"))

    def sign(self, body: bytes, now: float, event_id: bytes) -> Pairs:
        timestamp = b"%d" % now
        proofs = [b"v1," + b64encode(key.digest(b"%b.%b." % (event_id, timestamp), body)) for key in self._keys.all]
        return [
            (b"Webhook-Id", event_id),
            (b"Webhook-Timestamp", timestamp),
            (b"Webhook-Signature", b" ".join(proofs)),
        ]

    def claim(self, headers: Headers, now: float) -> Claim | str:
        given, timestamp, event_id = only(headers, b"Webhook-Signature", b"Webhook-Timestamp", b"Webhook-Id")
        if not given or timestamp is None or not event_id:
            return "the headers Webhook-Id, Webhook-Timestamp and Webhook-Signature must all be there, once"
        late = why_late("Webhook-Timestamp", timestamp, now, self._tolerance)
        if late is not None:
            return late
        proofs = [proof[3:] for proof in given.split() if proof.startswith(b"v1,")]
        if not proofs:
            return "Webhook-Signature holds no v1 signature (v1a, with public keys, is not known here)"
        return (b"%b.%b." % (event_id, timestamp), *proofs)

    def refusal(self, claim: Claim, body: bytes) -> str | None:
        before, *proofs = claim
        known = [b64encode(key.digest(before, body)) for key in self._keys.all]
        return None if _any_equal(proofs, known) else _mismatch(b"Webhook-Signature")


class _Key:
    """The secret itself, for receivers that want no more."""

    repeats_within = 0.0

    def __init__(self, signature: Signature) -> None:
        self._header = signature.header.encode() or b"X-Api-Key"
        self._prefix = _prefix(signature, self._header)
        self._keys = [secret.reveal() for secret in signature.secrets if secret.reveal()]
        self._ours = (self._header, self._prefix + signature.secret.reveal())
        self.names = frozenset((self._header.lower(),))

    def sign(self, body: bytes, now: float, event_id: bytes) -> Pairs:
        return [self._ours]

    def claim(self, headers: Headers, now: float) -> Claim | str:
        (given,) = only(headers, self._header)
        if given is None:
            return _absent(self._header)
        if given[: len(self._prefix)].lower() != self._prefix.lower():
            return f"{_shown(self._header)} does not begin with {_shown(self._prefix).rstrip()}"
        key = given[len(self._prefix) :]
        if not _any_equal([key], self._keys):
            return f"{_shown(self._header)} is not a key that is known here"
        return ()

    def refusal(self, claim: Claim, body: bytes) -> str | None:
        return None  # the key is all of it


# --- keys


class _Hmac:
    """One key, its first half of the work done."""

    __slots__ = ("_begun",)

    def __init__(self, key: bytes, digest: str) -> None:
        self._begun = hmac.new(key, digestmod=digest)

    def digest(self, before: bytes, body: bytes) -> bytes:
        return self._over(before, body).digest()

    def hex(self, before: bytes, body: bytes) -> bytes:
        return self._over(before, body).hexdigest().encode()

    def _over(self, before: bytes, body: bytes) -> hmac.HMAC:
        code = self._begun.copy()
        code.update(before)
        code.update(body)  # apart, so that a large body is not copied
        return code


class _Keys:
    def __init__(self, signature: Signature, digest: str = "sha256") -> None:
        self.all = [_Hmac(secret.reveal(), digest) for secret in signature.secrets]
        self.first = self.all[0]

    def prove(self, given: bytes, before: bytes, body: bytes) -> bool:
        return _any_equal([given], [key.hex(before, body) for key in self.all])


def _any_equal(given: Sequence[bytes], known: Sequence[bytes]) -> bool:
    """In a time that says nothing about where they differ, nor about which one it was."""
    equal = False
    for one in given:
        for other in known:
            equal |= hmac.compare_digest(one, other)
    return equal


# --- headers


def only(headers: Headers, *names: bytes) -> tuple[bytes | None, ...]:
    """The value of each header that is there exactly once."""
    wanted = {name.lower(): position for position, name in enumerate(names)}
    found: list[list[bytes]] = [[] for _ in names]
    for key, value in headers:
        position = wanted.get(key.lower())
        if position is not None:
            found[position].append(value.strip())
    return tuple(values[0] if len(values) == 1 else None for values in found)


def _prefix(signature: Signature, header: bytes) -> bytes:
    if signature.prefix is not None:
        return signature.prefix.encode()
    return _PREFIXES.get(header.lower(), b"")


def _bare(given: bytes, prefix: bytes) -> bytes:
    """The digest without what senders put before it: no hex digest begins in such a way."""
    digest = given.lower()
    for known in (prefix.lower(), *_ALGORITHMS):
        if known and digest.startswith(known):
            return digest[len(known) :]
    return digest


def why_late(name: str, timestamp: bytes, now: float, tolerance: float) -> str | None:
    if not timestamp.isdigit() or len(timestamp) > 18:
        return f"{name} is not unix time in seconds"
    age = now - int(timestamp)
    if abs(age) <= tolerance:
        return None
    where = "old" if age > 0 else "ahead of our clock"
    hint = "; it looks like milliseconds, send seconds" if age < -1e9 else ""
    return f"{name} is {abs(age):.0f}s {where}, {tolerance:.0f}s are allowed{hint}"


def _absent(header: bytes) -> str:
    return f"the header {_shown(header)} must be there, once"


def _mismatch(header: bytes) -> str:
    return f"{_shown(header)} does not match the body; check that both sides have the same secret"


def _shown(text: bytes) -> str:
    return text.decode("latin-1")
