"""Signatures on webhooks, in and out.

Preset `blazz`, as the existing workers make it and Laravel checks it (whatsapp-service/utils/webhookNotifier.js,
VerifyWhatsAppHmac.php): `X-HMAC-Signature` is the hex HMAC-SHA256 of the timestamp followed by the body, no separator;
`X-Timestamp` is unix time in seconds.

The bytes that are signed are the bytes that are sent. Each attempt is signed anew: a signature older than the
receiver's tolerance would be refused for ever.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from runtime.policies.model import Signature

SIGNATURE_HEADER = b"x-hmac-signature"
TIMESTAMP_HEADER = b"x-timestamp"
HEADERS = frozenset({SIGNATURE_HEADER, TIMESTAMP_HEADER})

Headers = Iterable[tuple[bytes, bytes]]


def sign(signature: Signature, body: bytes, now: float) -> list[tuple[bytes, bytes]]:
    """The headers that prove `body` at `now` (unix seconds)."""
    timestamp = str(int(now)).encode()
    return [(b"X-HMAC-Signature", _digest(signature, timestamp, body)), (b"X-Timestamp", timestamp)]


def refusal(signature: Signature, headers: Headers, body: bytes, now: float) -> str | None:
    """Why these headers do not prove `body`, in words for the sender; None when they do.

    Names are compared lower-case, the digest in constant time.
    """
    given = _one_of(headers, SIGNATURE_HEADER)
    timestamp = _one_of(headers, TIMESTAMP_HEADER)
    if given is None or timestamp is None:
        return "the headers X-HMAC-Signature and X-Timestamp must both be there, once"
    if not timestamp.isdigit() or len(timestamp) > 18:
        return "X-Timestamp is not unix time in seconds"
    age = now - int(timestamp)
    if abs(age) > signature.tolerance:
        where = "old" if age > 0 else "ahead of our clock"
        hint = "; it looks like milliseconds, send seconds" if age < -1e9 else ""
        return f"X-Timestamp is {abs(age):.0f}s {where}, {signature.tolerance:.0f}s are allowed{hint}"
    if not hmac.compare_digest(given.lower(), _digest(signature, timestamp, body)):
        return "X-HMAC-Signature does not match the body; check that both sides have the same secret"
    return None


def _digest(signature: Signature, timestamp: bytes, body: bytes) -> bytes:
    return hmac.new(signature.secret.reveal(), timestamp + body, hashlib.sha256).hexdigest().encode()


def _one_of(headers: Headers, name: bytes) -> bytes | None:
    values = [value for key, value in headers if key.lower() == name]
    return values[0].strip() if len(values) == 1 else None
