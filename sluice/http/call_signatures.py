"""Signatures on calls: over method and path as well, so that what was signed for one call proves no other.

    X-Sluice-Timestamp: unix time in seconds
    X-Sluice-Signature: v1= and hex HMAC-SHA256(secret, v1 LF time LF METHOD LF path LF body)

`v1` is signed, too: no webhook that is signed with the same secret (`sluice.http.signatures`) can pass for a call. The
path is that of the request line, without a query.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from sluice.config import Signature
from sluice.http.signatures import Headers, Pairs, only, why_late

_TIMESTAMP, _SIGNATURE = "X-Sluice-Timestamp", "X-Sluice-Signature"
_SCHEME = b"v1"
HOW_TO_SIGN = (
    f"send {_TIMESTAMP} with the unix time in seconds and {_SIGNATURE} with v1= and the hex HMAC-SHA256 of v1, that "
    "time, {method}, {path} and the body, with a line feed between them; a signature over the body alone is not enough "
    "(docs/workers.md)"
)


@dataclass(frozen=True, slots=True)
class CallClaim:
    """What the head of a call says that it proves it with."""

    method: str
    path: str
    timestamp: bytes
    digest: bytes

    def why_late(self, signature: Signature, now: float) -> str | None:
        return why_late(_TIMESTAMP, self.timestamp, now, signature.tolerance)

    @property
    def mismatch(self) -> str:
        return (
            f"{_SIGNATURE} does not match; check the secret, that {self.method} {self.path} is what was signed, and in "
            "sessions.keys that this secret may speak for this worker"
        )

    def is_proven_by(self, signature: Signature, body: bytes, now: float) -> bool:
        """Compared in a time that says nothing about how near a wrong one was."""
        if self.why_late(signature, now) is not None:
            return False
        before = _before(self.timestamp, self.method, self.path)
        equal = False
        for secret in signature.secrets:
            equal |= hmac.compare_digest(self.digest, _digest(secret.reveal(), before, body))
        return equal


def sign_call(signature: Signature, method: str, path: str, body: bytes, now: float) -> Pairs:
    """The headers that prove the call at `now` (unix seconds), with the newest secret."""
    timestamp = b"%d" % now
    digest = _digest(signature.secret.reveal(), _before(timestamp, method, path), body)
    return [(_TIMESTAMP.encode(), timestamp), (_SIGNATURE.encode(), _SCHEME + b"=" + digest)]


def claim_of(headers: Headers, method: str, path: str, how: str = HOW_TO_SIGN) -> CallClaim | str:
    """A text, for the sender, where no call can be proven by these headers. `how`: what he is told to sign."""
    timestamp, given = only(headers, _TIMESTAMP.encode(), _SIGNATURE.encode())
    if timestamp is None or given is None:
        return how.format(method=method, path=path)
    scheme, _, digest = given.partition(b"=")
    if scheme != _SCHEME:
        return f"{_SIGNATURE} does not begin with v1=, the only scheme that is known here"
    return CallClaim(method, path, timestamp, digest.lower())


def _before(timestamp: bytes, method: str, path: str) -> bytes:
    return b"%b\n%b\n%b\n%b\n" % (_SCHEME, timestamp, method.encode(), path.encode())


def _digest(key: bytes, before: bytes, body: bytes) -> bytes:
    code = hmac.new(key, before, "sha256")
    code.update(body)
    return code.hexdigest().encode()
