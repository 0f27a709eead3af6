"""Requests that come back: by a field in which each gateway that passes a request on leaves its name.

It says what Via says (RFC 9110 section 7.6.3), which is not used, as servers treat a request with Via differently:
nginx compresses no answer to it, for one (`gzip_proxied`).
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from sluice.http.fields import FORWARDING, Field, Fields
from sluice.http.problem import Refusal

NAME: Final = b"X-Sluice-Via"
KEY: Final = b"x-sluice-via"
_MOST: Final = 16
"""Gateways that a request may pass."""
_CHAIN: Final = re.compile(rb"[0-9a-f]{8}(?:, [0-9a-f]{8}){0,15}")
RETURNED: Final = (
    "this request has been here before: an upstream, an endpoint or a worker is this gateway itself, or leads back to "
    "it; write the address of the one that is meant (sluice check names those that it can tell)"
)


class Via:
    """One gateway's name, which no other has."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(4).encode()
        self._alone = Field(NAME, self._name)

    def after(self, fields: Fields) -> Field:
        """What the next one is told of a request with these fields."""
        if not fields.kinds & FORWARDING:
            return self._alone
        chain = _chain_of(fields)
        return Field(NAME, chain + b", " + self._name) if chain else self._alone

    def refuse_returned(self, fields: Fields) -> None:
        """Raises Refusal 508 (RFC 5842 section 7.2) for a request that has passed this gateway, or very many others."""
        names = _chain_of(fields).split(b", ")
        if self._name in names or len(names) >= _MOST:
            raise Refusal(508, RETURNED)


def _chain_of(fields: Fields) -> bytes:
    """Empty: there is none, or one that no gateway has written."""
    chain = b", ".join([field.value for field in fields.all if field.key == KEY])
    return chain if _CHAIN.fullmatch(chain) else b""
