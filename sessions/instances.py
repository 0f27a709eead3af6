"""What existing workers call themselves: the X-Instance-Url of their webhooks, which Laravel stores and calls."""

from __future__ import annotations

from urllib.parse import urlsplit

from sessions.policies import host_and_port
from sluice.config.problems import Malformed
from sluice.config.urls import http_url

_LONGEST = 200


def instance_of(header: bytes) -> str | None:
    """`http://localhost:3001`, without a path, in lower case; None: it is no address that can be called."""
    try:
        url = http_url(header[: _LONGEST + 1].decode("ascii"))
    except (UnicodeDecodeError, Malformed):
        return None
    return f"{urlsplit(url).scheme}://{host_and_port(url)}" if len(header) <= _LONGEST else None


class Instances:
    """The last one of each worker that its prefix tells, as this process heard it."""

    def __init__(self) -> None:
        self._headers: dict[str, bytes] = {}
        self._known: dict[str, str] = {}

    def note(self, worker: str, header: bytes | None) -> None:
        """`worker`: one of the policies, so there are not many of them."""
        if header is None or self._headers.get(worker) == header[: _LONGEST + 1]:
            return
        self._headers[worker] = header[: _LONGEST + 1]
        instance = instance_of(header)
        if instance is not None:
            self._known[worker] = instance

    def of(self, worker: str) -> str | None:
        return self._known.get(worker)
