"""Webhook signatures as the session workers make them (preset `blazz`).

`X-HMAC-Signature` is the hex HMAC-SHA256 of the timestamp followed by the body, nothing in between; `X-Timestamp` is
unix time in whole seconds. Source: whatsapp-service/utils/webhookNotifier.js of the workers.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path


class NoSecret(Exception):
    """The secret is not where it was said to be; the message never shows a secret."""


def headers(secret: bytes, body: bytes, now: float) -> dict[str, str]:
    """That prove `body` at `now` (unix seconds)."""
    timestamp = str(int(now))
    digest = hmac.new(secret, timestamp.encode() + body, hashlib.sha256).hexdigest()
    return {"X-HMAC-Signature": digest, "X-Timestamp": timestamp}


def secret_from(text: str) -> bytes:
    """`env:NAME` or `file:PATH`, as in policies.yaml. Raises NoSecret."""
    kind, _, name = text.partition(":")
    if kind == "file":
        try:
            value = Path(name).read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise NoSecret(f"the secret's file {name} cannot be read: {error.strerror}") from None
    elif kind == "env":
        value = os.environ.get(name, "").encode()
    else:
        raise NoSecret("name the secret as env:NAME or file:PATH; it must not stand on a command line")
    if not value:
        raise NoSecret(f"there is no secret in {text}")
    return value
