"""TLS handshakes that fail, by what was wrong: asyncio and uvloop tell nobody of them.

A connection that is given up without a word, as by a health check that only connects, is none. Clients of TLS 1.3
refuse a certificate when the handshake is over for us (RFC 8446 section 4.4), so what they say comes while reading.
"""

from __future__ import annotations

import ssl
from typing import Any

from sluice.http.server import metrics


def counted(context: ssl.SSLContext, listener: str) -> None:
    """From now on the failures of this listener's handshakes are counted."""

    class Connection(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except ssl.SSLError as error:
                _count(listener, error)
                raise

        def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - as its base calls it
            try:
                return super().read(len, buffer)
            except ssl.SSLError as error:
                _count(listener, error)
                raise

    context.sslobject_class = Connection


def _count(listener: str, error: ssl.SSLError) -> None:
    if type(error) is ssl.SSLError:  # none of those that say to wait, or that the other side has closed
        metrics.handshake_failed(listener, reason_of(error.reason or ""))


def reason_of(said: str) -> str:
    """In a word, of what OpenSSL calls it."""
    if "CERTIFICATE" in said or "UNKNOWN_CA" in said:
        return "certificate"
    if said in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"):
        return "no_tls"
    if "PROTOCOL" in said or "VERSION" in said:
        return "version"
    return "other"
