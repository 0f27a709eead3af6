"""Where an upstream is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

PORTS = {"http": 80, "https": 443}
UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 9110 §4.3.1). An IPv6 host is kept without its brackets."""

    scheme: str
    host: str
    port: int
    socket: str = ""
    """Path of the unix socket that is connected to; empty: host and port are."""

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of a URL, whose path is left to `base_path`, or of `unix:/path`: HTTP over that socket. Raises
        ValueError if it is none of these."""
        if url.startswith(UNIX):
            return cls("http", "localhost", PORTS["http"], url.removeprefix(UNIX))
        parts = _split(url)
        return cls(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme])

    @property
    def authority(self) -> bytes:
        """As a Host field has it: IPv6 in brackets, no port where it is the scheme's own (RFC 9110 §7.2)."""
        host = b"[%b]" % self.host.encode() if ":" in self.host else self.host.encode("idna")
        return host if self.port == PORTS[self.scheme] else b"%b:%d" % (host, self.port)

    def __str__(self) -> str:
        if self.socket:
            return UNIX + self.socket
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def base_path(url: str) -> bytes:
    """What goes before every target: the path of an upstream's URL, without a slash at its end; b"" for none."""
    return b"" if url.startswith(UNIX) else _split(url).path.rstrip("/").encode("ascii")


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("an upstream is http://host[:port][/base] or https://…")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an upstream's url carries no user or password")
    if parts.port == 0:
        raise ValueError("an upstream's port is between 1 and 65535")
    return parts
