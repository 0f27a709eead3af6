"""One connection to the gateway, from an address of our choice.

The standard library's client on locust's cooperative sockets: unlike locust's own clients it can say from which
address it connects, and tells to the moment when a request left.
"""

from __future__ import annotations

import contextlib
import select
import ssl
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, SOCK_DGRAM, getaddrinfo, socket
from urllib.parse import urlsplit

from policies import Address

TIMEOUT = 15.0
"""Seconds for connecting, and for each piece of an answer; longer than a gateway holds a request."""


class Unanswered(Exception):
    """The connection failed, or no whole answer came."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after: float | None = None
    """Seconds (RFC 9110 section 10.2.3); a date is not understood here."""


class Connection:
    """Kept alive between requests, opened anew when the other side has closed it. One request at a time."""

    def __init__(self, url: str, source: str | None = None) -> None:
        self._url = urlsplit(url)
        self._source = (source, 0) if source else None
        self._client: HTTPConnection | None = None

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """Raises Unanswered. Never sends twice: what was sent may have been counted."""
        client = self._open()
        try:
            client.request(method, self._url.path.rstrip("/") + path, body, headers)
            response = client.getresponse()
            wait = response.headers.get("Retry-After", "")
            return Answer(response.status, response.read(), float(wait) if wait.isdecimal() else None)
        except (OSError, HTTPException) as error:
            self.close()
            raise Unanswered(str(error) or type(error).__name__) from None
        except BaseException:
            self.close()  # the user was stopped while its request was under way
            raise

    def close(self) -> None:
        if self._client:
            self._client.close()
        self._client = None

    def _open(self) -> HTTPConnection:
        if self._client and _closed_by_peer(self._client):
            self.close()
        if not self._client:
            host, port = self._url.hostname or "", self._url.port
            if self._url.scheme == "https":
                context = ssl.create_default_context()
                self._client = HTTPSConnection(
                    host, port, timeout=TIMEOUT, source_address=self._source, context=context
                )
            else:
                self._client = HTTPConnection(host, port, timeout=TIMEOUT, source_address=self._source)
        return self._client


def _closed_by_peer(client: HTTPConnection) -> bool:
    """A connection that is idle and readable has been closed, or is out of step."""
    if client.sock is None:
        return False
    with contextlib.suppress(OSError, ValueError):
        return bool(select.select([client.sock], [], [], 0)[0])
    return True


def own_address(url: str, source: str | None = None) -> Address:
    """The address the gateway sees us at, as far as this machine can tell (not behind a NAT). Raises OSError."""
    parts = urlsplit(url)
    if source:
        return ip_address(source)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    family, _, _, _, address = getaddrinfo(parts.hostname, port, type=SOCK_DGRAM)[0]
    with socket(AF_INET6 if family == AF_INET6 else AF_INET, SOCK_DGRAM) as probe:
        probe.connect(address)  # sends nothing
        return ip_address(probe.getsockname()[0])


def can_send_from(source: str) -> bool:
    """Any of 127.0.0.0/8 on Linux; elsewhere only addresses that an interface has."""
    try:
        with socket(AF_INET6 if ":" in source else AF_INET) as probe:
            probe.bind((source, 0))
            return True
    except OSError:
        return False
